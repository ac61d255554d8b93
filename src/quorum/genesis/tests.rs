//! Documents and quorums, with real keys and signatures of `ssh-keygen`.
#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod governance;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;
use crate::quorum::ssh_keygen::{Keys, malleated};

fn document(keys: &[(&str, &str)], threshold: usize) -> String {
    let mut text = format!(
        r#"format = "kekd-genesis-v1"
instance = "rig"

[policy]
threshold = {threshold}

[issuer]
subject = "CN=kekd issuing key,O=Example"
valid_days = 7300

[[client]]
name = "lkm-1"
identity = "spiffe://kekd.test/lkm-1"
role = "unwrap-client"
keks = ["recordings"]

[[client]]
name = "root"
identity = "uid:0"
role = "operator"

[[kek]]
name = "recordings"
profile = "kek-rsa-3072"
certificate_subject = "CN=recordings"
certificate_valid_days = 3650
"#
    );
    for (name, key) in keys {
        text.push_str(&format!(
            "\n[[officer]]\nname = \"{name}\"\nrole = \"key-custodian\"\nkey = \"{key}\"\n"
        ));
    }
    text
}

const ALICE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti alice";
const BOB: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc= bob";

fn parse(text: &str) -> Result<Genesis, GenesisError> {
    Genesis::parse(text.as_bytes())
}

#[test]
fn a_document_is_read_and_kept_byte_for_byte() {
    let text = document(&[("alice", ALICE), ("bob", BOB)], 2);
    let genesis = parse(&text).unwrap();
    assert_eq!(genesis.bytes(), text.as_bytes());
    assert_eq!(genesis.instance(), "rig");
    assert_eq!(genesis.threshold(), 2);
    assert_eq!(genesis.issuer().valid_days, 7300);
    assert_eq!(genesis.officers().len(), 2);
    let kek = "recordings".parse().unwrap();
    assert_eq!(genesis.kek(&kek).unwrap().profile, "kek-rsa-3072");
    let identity = "spiffe://kekd.test/lkm-1".parse().unwrap();
    let caller = genesis.clients().caller(&identity).unwrap();
    assert!(caller.require_grant(&kek).is_ok());
}

#[test]
fn documents_that_break_a_rule_are_refused_with_their_reason() {
    let good = document(&[("alice", ALICE), ("bob", BOB)], 2);
    parse(&good).unwrap();
    let hex = "a".repeat(64);
    let pinned = format!("profile = \"kek-rsa-3072\"\nprofile_sha256 = \"{hex}\"");
    parse(&good.replace("profile = \"kek-rsa-3072\"", &pinned)).unwrap();
    let again = |table: &str| {
        let at = good.find(table).unwrap();
        let block = good.get(at..).unwrap().split("\n\n").next().unwrap();
        format!("{good}\n{}\n", block.trim_end())
    };
    let cases = [
        (
            good.replace("genesis-v1", "genesis-v2"),
            "found \"kekd-genesis-v2\"",
        ),
        (
            good.replace("format = ", "formats = "),
            "missing field `format`",
        ),
        (
            good.replace("instance = \"rig\"", "instance = \"\""),
            "instance: expected 1 to 63",
        ),
        (
            good.replace("threshold = 2", "threshold = 1"),
            "found 1 with 2 officers",
        ),
        (
            good.replace("threshold = 2", "threshold = 3"),
            "found 3 with 2 officers",
        ),
        (
            good.replace("threshold = 2", "threshold = 32"),
            "policy threshold",
        ),
        (good.replace("threshold = 2", "threshold = -2"), "threshold"),
        (
            good.replace("threshold = 2", "treshold = 2"),
            "unknown field `treshold`",
        ),
        (
            good.replace("[policy]", "[policy]\nfast = true"),
            "unknown field `fast`",
        ),
        (
            good.replace("valid_days = 7300", "valid_days = 0"),
            "1 to 36500 days",
        ),
        (
            good.replace("valid_days = 3650", "valid_days = 36501"),
            "1 to 36500 days",
        ),
        (good.replace("CN=recordings", "recordings"), "RFC 4514"),
        (good.replace("CN=recordings", ""), "RFC 4514"),
        (
            good.replace("CN=recordings", "CN=kekd issuing key,O=Example"),
            "issuer's",
        ),
        (
            good.replace("name = \"bob\"", "name = \"alice\""),
            "client \"alice\" is there twice",
        ),
        (
            good.replace("name = \"bob\"", "name = \"lkm-1\""),
            "\"lkm-1\" is there twice",
        ),
        (
            good.replace("name = \"bob\"", "name = \" bob\""),
            "outer spaces",
        ),
        (
            good.replace(BOB, &ALICE.replace("alice", "bob")),
            "have one key",
        ),
        (good.replace(BOB, "ssh-dss AAAA bob"), "officer \"bob\""),
        (
            good.replace("key-custodian", "custodian"),
            "unknown variant `custodian`",
        ),
        (
            good.replace("uid:0", "spiffe://kekd.test/lkm-1"),
            "named twice",
        ),
        (good.replace("uid:0", "zero"), "uid:N or an absolute URI"),
        (
            good.replace("\"operator\"", "\"operator\"\nkeks = [\"recordings\"]"),
            "does not unwrap",
        ),
        (
            good.replace("keks = [\"recordings\"]", "keks = [\"other\"]"),
            "a KEK of this document",
        ),
        (
            good.replace(
                "keks = [\"recordings\"]",
                "keks = [\"recordings\", \"recordings\"]",
            ),
            "each KEK once",
        ),
        (again("[[kek]]"), "KEK \"recordings\" is there twice"),
        (again("[[client]]\nname = \"root\""), "uid:0 is named twice"),
        (
            good.replace("name = \"recordings\"", "name = \"Recordings\""),
            "found \"Recordings\"",
        ),
        (
            good.replace("\"kek-rsa-3072\"", "\"../kek\""),
            "profile: expected",
        ),
        (
            good.replace("profile = \"kek-rsa-3072\"", &pinned.replace('a', "A")),
            "unknown field",
        ),
        (
            good.replace("profile = \"kek-rsa-3072\"", &pinned.replace("aaa", "aAa")),
            "hexadecimal",
        ),
        (
            format!("{good}#{}", "x".repeat(GENESIS_LEN_MAX)),
            "at most 262144",
        ),
        (
            good.split("[[kek]]").next().unwrap().to_owned(),
            "1 to 256 KEKs",
        ),
    ];
    for (text, reason) in cases {
        let found = parse(&text).unwrap_err().to_string();
        if !found.contains(reason) {
            assert_eq!(found, reason);
        }
    }
    assert!(Genesis::parse(b"\xff").is_err());
    assert!(parse(&document(&[], 2)).is_err(), "nobody in office");
}

#[test]
fn keys_that_are_too_weak_or_of_another_kind_are_refused() {
    let keys = Keys::new();
    let cases = [
        (
            keys.make("small", "rsa", "2048"),
            Some("3072 to 8192 bits; found 2048"),
        ),
        (keys.make("large", "rsa", "3072"), None),
        (
            keys.make("p384", "ecdsa", "384"),
            Some("found ecdsa-sha2-nistp384"),
        ),
    ];
    for (key, reason) in cases {
        let found = parse(&document(&[("alice", ALICE), ("bob", &key)], 2));
        match reason {
            None => assert!(found.is_ok()),
            Some(reason) => {
                let found = found.unwrap_err().to_string();
                assert!(found.contains(reason), "{found}");
            }
        }
    }
}

#[test]
fn a_quorum_of_distinct_officers_authorizes() {
    let keys = Keys::new();
    let alice = keys.make("alice", "ed25519", "256");
    let bob = keys.make("bob", "ecdsa", "256");
    let carol = keys.make("carol", "rsa", "3072");
    let text = document(&[("alice", &alice), ("bob", &bob), ("carol", &carol)], 2);
    let genesis = parse(&text).unwrap();
    let sign = |name| keys.sign(name, GENESIS_NAMESPACE, text.as_bytes());
    let (by_alice, by_bob, by_carol) = (sign("alice"), sign("bob"), sign("carol"));

    for signatures in [
        vec![by_alice.clone(), by_bob.clone()],
        vec![by_carol.clone(), by_alice.clone()],
        vec![by_bob.clone(), by_carol.clone(), by_alice.clone()],
    ] {
        let authorized = genesis.authorize(&signatures).unwrap();
        assert_eq!(authorized.operation().signatures, signatures);
        assert_eq!(authorized.operation().signers.len(), signatures.len());
        assert_eq!(authorized.operation().genesis_sha256, genesis.sha256());
    }

    keys.make("mallory", "ed25519", "256");
    let by_mallory = keys.sign("mallory", GENESIS_NAMESPACE, text.as_bytes());
    let other_space = keys.sign("bob", "file", text.as_bytes());
    let other_text = keys.sign(
        "bob",
        GENESIS_NAMESPACE,
        text.replace("rig", "rag").as_bytes(),
    );
    let bob_again = malleated(&by_bob);
    assert!(keys.openssh_accepts(&bob, &bob_again, text.as_bytes()));
    let cases: [(&str, &[&Vec<u8>], &str); 9] = [
        ("nobody", &[], "found those of 0"),
        ("one officer", &[&by_alice], "found those of 1: alice"),
        (
            "the same twice",
            &[&by_alice, &by_alice],
            "alice has signed already",
        ),
        (
            "the same in two forms",
            &[&by_bob, &bob_again],
            "bob has signed already",
        ),
        (
            "a stranger",
            &[&by_alice, &by_mallory],
            "no officer has the key SHA256:",
        ),
        (
            "a stranger beside a quorum",
            &[&by_alice, &by_bob, &by_mallory],
            "signature 3: no",
        ),
        (
            "another namespace",
            &[&by_alice, &other_space],
            "found \"file\"",
        ),
        (
            "another document",
            &[&by_alice, &other_text],
            "by bob does not verify",
        ),
        (
            "more than there are",
            &[&by_alice, &by_bob, &by_carol, &by_alice],
            "at most one signature of each of the 3",
        ),
    ];
    for (case, signatures, reason) in cases {
        let signatures: Vec<_> = signatures.iter().map(|s| s.to_vec()).collect();
        let found = genesis.authorize(&signatures).err().unwrap().to_string();
        assert!(found.contains(reason), "{case}: {found}");
    }
    // The other form of bob's signature is his all the same, and counts once.
    assert!(genesis.authorize(&[by_alice, bob_again]).is_ok());
}

#[test]
fn one_point_in_a_security_key_and_out_of_it_is_one_key() {
    let point = [&32_u32.to_be_bytes()[..], &[0x11; 32]].concat();
    let line = |kind: &str, rest: &[u8]| {
        let len = u32::try_from(kind.len()).unwrap().to_be_bytes();
        let data = [&len, kind.as_bytes(), &point, rest].concat();
        format!("{kind} {}", BASE64.encode(data))
    };
    let plain = line("ssh-ed25519", &[]);
    let hard = line("sk-ssh-ed25519@openssh.com", b"\0\0\0\x04ssh:");
    let found = parse(&document(&[("alice", &hard), ("bob", &plain)], 2));
    assert!(matches!(found, Err(GenesisError::KeyTwice { .. })));
}
