//! The ledger held against the token: pin, anchor, identity.

use super::*;

fn pin(ledger: &Ledger) -> Vec<u8> {
    let instance_id = ledger.state().instance_id();
    Pin { instance_id }.to_bytes()
}

fn anchor(state: &State) -> Vec<u8> {
    Anchor {
        instance_id: state.instance_id(),
        head: state.head(),
    }
    .to_bytes()
}

#[test]
fn an_anchor_may_be_behind_and_never_ahead() {
    let site = Site::new();
    let mut ledger = site.bear();
    let older_copy = site.folder.path().join("older");
    copy_dir(&site.dir(), &older_copy);
    let pins = [pin(&ledger)];
    let young = anchor(ledger.state());
    judge(&pins, std::slice::from_ref(&young), &ledger).unwrap();
    let old = anchor(&site.append(&mut ledger, archive(), NOW));
    for anchors in [
        vec![young.clone()],
        vec![old.clone()],
        vec![old.clone(), young.clone()],
        vec![young.clone(), old.clone()],
        vec![old.clone(), old.clone()],
    ] {
        judge(&pins, &anchors, &ledger).unwrap();
    }
    drop(ledger);

    // The whole state directory of yesterday: sound in itself, and refused.
    std::fs::remove_dir_all(site.dir()).unwrap();
    std::fs::rename(&older_copy, site.dir()).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(site.dir(), permissions).unwrap();
    let rolled_back = site.open().unwrap();
    for anchors in [vec![old.clone()], vec![young.clone(), old]] {
        let found = judge(&pins, &anchors, &rolled_back).unwrap_err();
        assert!(matches!(
            found,
            LedgerError::RolledBack {
                expected: 3,
                found: 2
            }
        ));
    }
    judge(&pins, &[young], &rolled_back).unwrap();
}

#[test]
fn entries_cut_off_with_their_checkpoint_are_seen_by_the_anchor() {
    let site = Site::new();
    let mut ledger = site.bear();
    let pins = [pin(&ledger)];
    let anchors = [anchor(&site.append(&mut ledger, archive(), NOW))];
    drop(ledger);
    site.tamper("DELETE FROM entry WHERE idx = 2; DELETE FROM checkpoint WHERE size = 3");
    let ledger = site.open().unwrap();
    let found = judge(&pins, &anchors, &ledger).unwrap_err().to_string();
    assert!(found.contains("expected at least 3 entries"), "{found}");
}

#[test]
fn objects_that_are_missing_foreign_or_malformed_are_refused() {
    let (site, other) = (Site::new(), Site::new());
    let (ledger, stranger) = (site.bear(), other.bear());
    let (good_pin, good_anchor) = (pin(&ledger), anchor(ledger.state()));
    let other_history = Anchor {
        instance_id: ledger.state().instance_id(),
        head: Head {
            size: 1,
            root: Sha256::of(b"other"),
        },
    };
    let pins = |pins: &[&[u8]]| pins.iter().map(|p| p.to_vec()).collect::<Vec<_>>();
    let cases = [
        (
            pins(&[]),
            pins(&[&good_anchor]),
            "exactly one object \"kekd genesis pin\"",
        ),
        (
            pins(&[&good_pin, &good_pin]),
            pins(&[&good_anchor]),
            "exactly one object",
        ),
        (
            pins(&[&pin(&stranger)]),
            pins(&[&good_anchor]),
            "put ledger and token of one instance",
        ),
        (
            pins(&[b"x"]),
            pins(&[&good_anchor]),
            "a pin of format version 1",
        ),
        (pins(&[&good_pin]), pins(&[]), "one object \"kekd anchor\""),
        (
            pins(&[&good_pin]),
            vec![good_anchor.clone(); 17],
            "found 17",
        ),
        (
            pins(&[&good_pin]),
            pins(&[&anchor(stranger.state())]),
            "\"kekd anchor\" in the token",
        ),
        (
            pins(&[&good_pin]),
            pins(&[&good_anchor, b"x"]),
            "an anchor of format version 1",
        ),
        (
            pins(&[&good_pin]),
            pins(&[&other_history.to_bytes()]),
            "this is another history",
        ),
        (
            pins(&[&good_pin]),
            pins(&[&good_anchor, &other_history.to_bytes()]),
            "this is another history",
        ),
    ];
    for (pins, anchors, reason) in cases {
        let found = judge(&pins, &anchors, &ledger).unwrap_err().to_string();
        assert!(found.contains(reason), "{found}");
    }
}

#[test]
fn pins_and_anchors_have_one_form() {
    let site = Site::new();
    let ledger = site.bear();
    let (pin, anchor) = (pin(&ledger), anchor(ledger.state()));
    let altered = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        [
            text.replace('\n', "\r\n"),
            text.trim_end().to_owned(),
            format!("{text}\n"),
            format!(" {text}"),
            text.to_uppercase(),
            text.replace("-v1", "-v2"),
            text.replace("size 2", "size 02"),
            text.replace("size 2", "size +2"),
            text.replace("size 2", "size 0"),
            text.replace("instance ", "instance  "),
            format!("{text}{}", "x".repeat(300)),
        ]
    };
    for text in altered(&pin) {
        let unchanged = text.as_bytes() == pin;
        assert_eq!(Pin::parse(text.as_bytes()).is_ok(), unchanged, "{text:?}");
    }
    for text in altered(&anchor) {
        assert!(Anchor::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    assert!(Anchor::parse(&pin).is_err() && Pin::parse(&anchor).is_err());
    assert!(Pin::parse(&[0xff; 90]).is_err());
}

#[test]
fn only_the_token_everything_was_made_in_will_do() {
    let site = Site::new();
    let ledger = site.bear();
    let state = ledger.state();
    state.require_token(state.token()).unwrap();
    let copies: [fn(&mut TokenIdentity); 4] = [
        |token| token.label.push('x'),
        |token| token.serial.push('x'),
        |token| token.manufacturer.push('x'),
        |token| token.model.push('x'),
    ];
    for change in copies {
        let mut token = state.token().clone();
        change(&mut token);
        let found = state.require_token(&token).unwrap_err().to_string();
        assert!(
            found.contains("expected the token \"kekd\" with serial number"),
            "{found}"
        );
    }
}
