//! The rules of a profile, each broken once.
#![expect(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use super::{AttributeName, PROFILE_LEN_MAX, Profile, ProfileError};
use crate::types::ReleaseForm;

fn refusal(profile: &str, from: &str, to: &str) -> String {
    let text = Profile::builtin(profile).unwrap();
    assert!(text.contains(from), "{profile} has no {from:?}");
    match Profile::parse(text.replacen(from, to, 1).as_bytes()) {
        Ok(_) => "accepted".to_owned(),
        Err(ProfileError::Rule { what, must, .. }) => format!("{what} must be {must}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_builtin_profile_keeps_the_rules_and_its_name() {
    for name in Profile::builtin_names() {
        let text = Profile::builtin(name).unwrap();
        let profile = Profile::parse(text.as_bytes()).unwrap();
        assert_eq!(profile.name(), name);
        assert_eq!(profile.bytes(), text.as_bytes());
    }
    let recipient = Profile::builtin("kek-rsa-3072-recipient").unwrap();
    let recipient = Profile::parse(recipient.as_bytes()).unwrap();
    assert_eq!(recipient.modulus_bits(), Some(3072));
    assert_eq!(recipient.release_forms(), [ReleaseForm::Recipient]);
    assert_eq!(recipient.private_flag(AttributeName::Decrypt), Some(false));
}

#[test]
fn a_key_that_could_leave_is_refused() {
    let extractable = "attribute = \"CKA_EXTRACTABLE\"\nvalue = false";
    let weak = extractable.replace("false", "true");
    assert_eq!(
        refusal("kek-rsa-3072", extractable, &weak),
        "CKA_EXTRACTABLE must be false"
    );
    let waived = "[[token_cannot]]\nattribute = \"CKA_SENSITIVE\"\nreason = \"no\"\n\n[key]";
    assert_eq!(
        refusal("kek-rsa-3072", "[key]", waived),
        "CKA_SENSITIVE must be true"
    );
    assert_eq!(
        refusal(
            "kek-rsa-3072",
            "CKA_SIGN\"\nvalue = false",
            "CKA_SIGN\"\nvalue = true"
        ),
        "CKA_SIGN must be false in the end for RSA, true otherwise"
    );
}

#[test]
fn release_and_use_agree() {
    assert_eq!(
        refusal("kek-rsa-3072", "[\"clear\"]", "[\"clear\", \"recipient\"]"),
        "CKA_UNWRAP must be true"
    );
    assert_eq!(
        refusal("kek-rsa-3072", "[\"clear\"]", "[\"recipient\"]"),
        "CKA_DECRYPT must be false"
    );
    assert_eq!(
        refusal("kek-rsa-3072-both", "\"oaep-sha256\"]", "\"pkcs1-v1_5\"]"),
        "paddings must be without pkcs1-v1_5 where a recipient may be named"
    );
    assert_eq!(
        refusal(
            "kek-rsa-3072",
            "[\"CKM_RSA_PKCS_OAEP\"]",
            "[\"CKM_RSA_PKCS\"]"
        ),
        "allowed_mechanisms must be what paddings and certificate use, and no more"
    );
}

#[test]
fn a_profile_says_where_its_key_was_made() {
    let local = "CKA_LOCAL\"\nvalue = ";
    assert_eq!(
        refusal(
            "kek-rsa-2048-imported",
            &format!("{local}false"),
            &format!("{local}true")
        ),
        "CKA_LOCAL must be false where the key is imported"
    );
    assert_eq!(
        refusal("kek-rsa-3072-pkcs1", "[key]\n", "[key]\nimported = true\n"),
        "CKA_ALWAYS_SENSITIVE must be false where the key is imported"
    );
    assert_eq!(
        refusal("kek-rsa-2048-imported", "imported = true\n", ""),
        "CKA_ALWAYS_SENSITIVE must be true where the key is made in the token"
    );
    assert_eq!(
        refusal("kek-rsa-2048-imported", "\"issued\"", "\"none\""),
        "certificate must be issued for an imported key"
    );
    assert_eq!(
        refusal("log-signing", "[key]\n", "[key]\nimported = true\n"),
        "certificate must be issued for an imported key"
    );
}

#[test]
fn each_attribute_is_stated_once_with_a_reason() {
    let reason = "The key outlives the session that made it.";
    assert_eq!(
        refusal("log-signing", reason, " "),
        "the reason of CKA_TOKEN must be a sentence"
    );
    assert_eq!(
        refusal("log-signing", "\"CKA_DERIVE\"", "\"CKA_SIGN\""),
        "CKA_SIGN must be named once"
    );
    assert_eq!(
        refusal("implicit-rejection", "read_only = true\n", ""),
        "CKA_ALWAYS_SENSITIVE must be read_only"
    );
    assert_eq!(
        refusal(
            "log-signing",
            "\nattribute = \"CKA_DERIVE\"",
            "\nat_birth = true\nattribute = \"CKA_DERIVE\""
        ),
        "CKA_DERIVE must be without at_birth unless self-signed and not read_only"
    );
}

#[test]
fn what_is_not_the_format_is_refused() {
    let unknown = refusal("log-signing", "certificate =", "colour = 1\ncertificate =");
    assert!(unknown.contains("does not follow the format"), "{unknown}");
    let raw = refusal("log-signing", "\"CKM_ECDSA\"", "\"CKM_RSA_X_509\"");
    assert!(raw.contains("does not follow the format"), "{raw}");
    let long = vec![b' '; PROFILE_LEN_MAX + 1];
    assert!(matches!(
        Profile::parse(&long),
        Err(ProfileError::TooLong { .. })
    ));
    assert!(matches!(
        Profile::parse(&[0xff]),
        Err(ProfileError::NotText)
    ));
}
