//! `kekd-lkm` as the cloud and as an attacker sees it: the real program before the real daemon, over
//! real TLS.

mod abuse;
mod bench;
mod credentials;
mod faults;
mod front;
mod pair;
mod protocol;
mod ready;
mod reload;
mod socket;
mod stops;
mod weak;
