//! The networks that may connect. The cloud publishes its own (`GET /api/v2/ipranges`, service
//! "encryption"); everybody else is let go before TLS begins.

use std::net::IpAddr;
use std::str::FromStr;

/// A list of networks; empty for any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources(Vec<(IpAddr, u8)>);

/// Not a list of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected networks with commas between, such as 203.0.113.0/24, 2001:db8::/32")]
pub struct NotNetworks;

impl FromStr for Sources {
    type Err = NotNetworks;

    fn from_str(text: &str) -> Result<Self, NotNetworks> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',')
            .map(|part| network(part.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn network(text: &str) -> Result<(IpAddr, u8), NotNetworks> {
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NotNetworks)?;
    let len_max = if address.is_ipv4() { 32 } else { 128 };
    let len = match len {
        Some(len) => len.parse().map_err(|_| NotNetworks)?,
        None => len_max,
    };
    if len > len_max || bits(address, len) != bits(address, len_max) {
        // 10.0.0.1/8 is a mistake: a network has no bits beyond its length.
        return Err(NotNetworks);
    }
    Ok((address, len))
}

/// The first `len` bits, the others zero; an IPv4 address stands in the upper 32.
fn bits(address: IpAddr, len: u8) -> u128 {
    let all = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let dropped = 128_u32.saturating_sub(len.into());
    all & u128::MAX.checked_shl(dropped).unwrap_or(0)
}

impl Sources {
    /// Whether this address may connect.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.is_empty()
            || self.0.iter().any(|(network, len)| {
                network.is_ipv4() == address.is_ipv4()
                    && bits(address, *len) == bits(*network, *len)
            })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_its_network_only() {
        let sources: Sources = "203.0.113.0/24, 2001:db8::/32,192.0.2.7".parse().unwrap();
        let allow = |text: &str| sources.allow(text.parse().unwrap());
        for good in [
            "203.0.113.255",
            "::ffff:203.0.113.1",
            "2001:db8:1::1",
            "192.0.2.7",
        ] {
            assert!(allow(good), "{good}");
        }
        for bad in ["203.0.114.0", "2001:db9::", "192.0.2.8", "::", "127.0.0.1"] {
            assert!(!allow(bad), "{bad}");
        }
        assert!("".parse::<Sources>().unwrap().allow([1, 2, 3, 4].into()));
        assert!(
            "0.0.0.0/0"
                .parse::<Sources>()
                .unwrap()
                .allow([1, 2, 3, 4].into())
        );
        for bad in ["a", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", ",", "::/129"] {
            assert!(bad.parse::<Sources>().is_err(), "{bad}");
        }
    }
}
