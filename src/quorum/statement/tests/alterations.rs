//! Texts that were altered: what is not refused means something else, and says so.

use proptest::prelude::*;

use super::golden::FROZEN;
use super::*;

/// Bytes to put in the place of others, or between them.
const BYTES: [u8; 6] = [b'\n', b' ', b'0', b'a', b'A', 0x80];

/// Holds an altered text against the one it came from.
fn refused_or_another(name: &str, original: &Said, text: &[u8]) -> bool {
    match read(name, text) {
        Err(_) => true,
        Ok(said) => {
            assert_ne!(said, *original, "{name}: {}", String::from_utf8_lossy(text));
            false
        }
    }
}

/// Where the effect line is.
fn effect(text: &[u8]) -> std::ops::Range<usize> {
    let text = str::from_utf8(text).unwrap();
    let start = text.find("\neffect ").unwrap() + 1;
    start..start + text.get(start..).unwrap().find('\n').unwrap()
}

fn every_one_byte_change_is_seen(name: &str, frozen: &[u8]) {
    let original = read(name, frozen).unwrap();
    // An execution has its effect from its proposal; the fold compares the two.
    let effect = match name {
        "execution" => 0..0,
        _ => effect(frozen),
    };
    let judge = |at: usize, put: &[u8], len: usize| {
        let (before, rest) = frozen.split_at(at);
        let text = [before, put, rest.split_at(len).1].concat();
        if text != frozen {
            let refused = refused_or_another(name, &original, &text);
            assert!(refused || !effect.contains(&at), "{name}: effect at {at}");
        }
    };
    for (at, byte) in frozen.iter().enumerate() {
        judge(at, &[], 1);
        judge(at, &[*byte, *byte], 1);
        judge(at, &[byte ^ 1], 1);
        for put in BYTES {
            judge(at, &[put], 1);
            judge(at, &[put], 0);
        }
    }
    for put in BYTES {
        judge(frozen.len(), &[put], 0);
    }
}

#[test]
fn every_one_byte_change_of_a_statement_is_seen() {
    std::thread::scope(|scope| {
        for (name, frozen) in FROZEN {
            scope.spawn(move || every_one_byte_change_is_seen(name, frozen));
        }
    });
}

#[test]
fn lines_that_are_missing_doubled_or_moved_are_refused() {
    for (name, frozen) in FROZEN {
        let lines: Vec<&[u8]> = frozen.split_inclusive(|byte| *byte == b'\n').collect();
        let original = read(name, frozen).unwrap();
        for at in 0..lines.len() {
            let (before, rest) = lines.split_at(at);
            let (line, after) = rest.split_first().unwrap();
            let missing = [before, after].concat().concat();
            let doubled = [before, &[line, line], after].concat().concat();
            // An officer less is another operation, and has another effect.
            assert!(refused_or_another(name, &original, &missing), "{name} {at}");
            assert!(refused_or_another(name, &original, &doubled), "{name} {at}");
            if let Some((next, after)) = after.split_first() {
                let moved = [before, &[next, line], after].concat().concat();
                assert!(refused_or_another(name, &original, &moved), "{name} {at}");
            }
        }
    }
}

#[test]
fn line_ends_of_other_systems_and_open_ends_are_refused() {
    for (name, frozen) in FROZEN {
        let text = str::from_utf8(frozen).unwrap();
        let with_cr = text.replace('\n', "\r\n");
        let found = StatementError::NotPrintable {
            line: 1,
            found: b'\r',
        };
        assert_eq!(read(name, with_cr.as_bytes()), Err(found));
        let line = text.lines().count();
        let open = read(name, text.trim_end().as_bytes());
        assert_eq!(open, Err(StatementError::LineOpen { line }));
        let longer = [frozen, b"more\n"].concat();
        let found = "more".to_owned();
        let line = line + 1;
        let too_many = StatementError::LineTooMany { line, found };
        assert_eq!(read(name, &longer), Err(too_many));
    }
}

#[test]
fn a_statement_of_one_kind_is_none_of_another() {
    for (name, frozen) in FROZEN {
        for other in ["create-kek", "execution", "suspension-all"] {
            let kind = |name: &str| {
                let order = name == "execution" || name.starts_with("suspension");
                if order {
                    name.get(..9).unwrap().to_owned()
                } else {
                    String::new()
                }
            };
            if kind(name) != kind(other) {
                let found = read(other, frozen).unwrap_err();
                assert!(
                    matches!(found, StatementError::TitleUnknown { .. }),
                    "{found}"
                );
            }
        }
    }
}

proptest! {
    /// Several changes at once, and anything at all.
    #[test]
    fn no_two_texts_say_the_same(
        at in any::<proptest::sample::Index>(),
        which in 0..FROZEN.len(),
        len in 0..40_usize,
        put in proptest::collection::vec(0x0a..0x7f_u8, 0..40),
    ) {
        let (name, frozen) = FROZEN.get(which).unwrap();
        let original = read(name, frozen).unwrap();
        let (before, rest) = frozen.split_at(at.index(frozen.len()));
        let text = [before, &put, rest.get(len..).unwrap_or_default()].concat();
        if text != *frozen {
            refused_or_another(name, &original, &text);
        }
    }

    #[test]
    fn whatever_is_read_is_read_without_a_fault(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        for name in ["create-kek", "execution", "suspension-all"] {
            prop_assert!(read(name, &text).is_err());
        }
    }
}
