//! Nothing damaged opens, nothing panics, and a killed process leaves no plaintext.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use kekd::recording::{Fault, Overwrite, write_new};
use kekd::types::Padding;
use proptest::prelude::*;

use super::bench::{Bench, parse, read, wav};

/// Messages with the DEKs they open under, all to "a recording". The first three are openssl 3.0's;
/// the others have authenticated attributes (RFC 5083 section 2.2), made with Python's
/// `cryptography`, in DER and with the attributes out of order and of indefinite length.
const GOLDEN: [(&[u8], &str); 5] = [
    (
        include_bytes!("../../golden/recordings/gcm-oaep-sha256.der"),
        "635def8b8cfe621dc20576e202a8ea8befe52c50dab5d03b14e0cbb5c48036c0",
    ),
    (
        include_bytes!("../../golden/recordings/gcm-oaep-sha1-stream.ber"),
        "bfd078926902481e03078f7babedec0a1bd2efc28691c4b3d0cf871e2a64ff29",
    ),
    (
        include_bytes!("../../golden/recordings/cbc-pkcs1-stream.ber"),
        "cafd8ed44e4a0c87d3d960f8034ce28ab03cfd54231de23f56823b51fd2729a2",
    ),
    (
        include_bytes!("../../golden/recordings/gcm-attributes.der"),
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    ),
    (
        include_bytes!("../../golden/recordings/gcm-attributes-unsorted.ber"),
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    ),
];

#[test]
fn old_messages_keep_opening() {
    for (number, (message, dek)) in GOLDEN.into_iter().enumerate() {
        let digit = |place: usize| char::from(dek.as_bytes()[place]).to_digit(16).unwrap();
        let byte = |place| u8::try_from(digit(2 * place) * 16 + digit(2 * place + 1)).unwrap();
        let dek = std::array::from_fn(byte);
        let opened = parse(message).unwrap().open(&dek, &mut |_, _| ());
        assert_eq!(
            opened.unwrap().as_bytes(),
            b"a recording",
            "message {number}"
        );
    }
    // The attributes are authenticated: another signing time, and the content does not open.
    let mut changed = GOLDEN[3].0.to_vec();
    let time = changed
        .windows(6)
        .position(|found| found == b"261121")
        .unwrap();
    changed[time] ^= 1;
    let dek = std::array::from_fn(|place| u8::try_from(place).unwrap());
    let refused = parse(&changed).unwrap().open(&dek, &mut |_, _| ());
    assert!(matches!(refused.err().unwrap().fault, Fault::DoesNotOpen));
}

#[test]
fn a_changed_byte_or_another_dek_opens_nothing() {
    let bench = Bench::new();
    bench.sealed_here("sealed", Padding::OaepSha1);
    let good = bench.bytes("sealed");
    let recipient = bench.read("sealed").unwrap().recipients()[0].clone();
    let dek = bench.unwrap(&recipient);
    let content_start = good.len() - 18 - bench.bytes("call.wav").len();
    // In the tag, the nonce (12 bytes, an INTEGER of 3 and the content's header of 5 or more before
    // the content), and all over the content.
    let mut places = vec![good.len() - 1, good.len() - 16, content_start - 12];
    places.extend((content_start..good.len() - 18).step_by(20_011));
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        let output = bench.path("opened");
        let opened = parse(&bad).unwrap().open(&dek, &mut |_, _| ());
        let refused = opened.and_then(|content| {
            write_new(
                &output,
                &[content.as_bytes()],
                Overwrite::No,
                &mut |_, _| (),
            )
        });
        assert!(
            matches!(refused.unwrap_err().fault, Fault::DoesNotOpen),
            "byte {place}"
        );
        assert!(!output.exists());
    }
    let mut other = dek.clone();
    other[31] ^= 1;
    let refused = bench.read("sealed").unwrap().open(&other, &mut |_, _| ());
    let text = refused.err().unwrap().to_string();
    assert!(
        text.ends_with("does not open under this DEK: the DEK is another or the file was changed")
    );

    // CBC has no tag: a wrong DEK shows in the padding only, so one in about 256 passes.
    bench.openssl_seals("call.wav", "cbc", "-aes-256-cbc", &["-outform", "DER"]);
    let dek = bench.unwrap(&bench.read("cbc").unwrap().recipients()[0]);
    let refused = (0..32_usize).filter(|place| {
        let mut other = dek.clone();
        other[*place] ^= 1;
        bench
            .read("cbc")
            .unwrap()
            .open(&other, &mut |_, _| ())
            .is_err()
    });
    assert!(refused.count() > 24);
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    let bench = Bench::new();
    fs::write(bench.path("plain"), b"short").unwrap();
    for (cipher, form, stream) in [
        ("-aes-256-gcm", "DER", "-nodetach"),
        ("-aes-256-gcm", "DER", "-stream"),
        ("-aes-256-cbc", "DER", "-stream"),
        ("-aes-256-gcm", "PEM", "-stream"),
        ("-aes-256-gcm", "SMIME", "-nodetach"),
    ] {
        bench.openssl_seals("plain", "sealed", cipher, &["-outform", form, stream]);
        let whole = bench.bytes("sealed");
        assert!(parse(&whole).is_ok());
        // A text may lack white space and the label at its end, nothing before them.
        let text = String::from_utf8_lossy(&whole);
        let needed = match form {
            "DER" => whole.len(),
            _ => text
                .trim_end_matches("-----END CMS-----\n")
                .trim_end()
                .len(),
        };
        for len in 0..needed {
            assert!(
                parse(&whole[..len]).is_err(),
                "{len} bytes of {cipher} {form} {stream}"
            );
        }
        if form == "DER" {
            let longer = [&whole[..], b"\0"].concat();
            let text = parse(&longer).err().unwrap().to_string();
            assert!(text.contains("nothing may follow the message"), "{text}");
        }
    }
}

/// The process that the next test kills: it opens `sealed` under `dek` into `opened`, says when it
/// is half way through writing and then waits for ever.
#[test]
#[ignore = "run by a_killed_process_leaves_no_plaintext in a process of its own"]
fn opens_half_way() {
    let dek: [u8; 32] = fs::read("dek").unwrap().try_into().unwrap();
    let content = read(Path::new("sealed"))
        .unwrap()
        .open(&dek, &mut |_, _| ())
        .unwrap();
    let mut progress = |done, total| {
        assert!(done < total, "nobody killed the process");
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(b"half way\n").unwrap();
        stdout.flush().unwrap();
        // Ends only when the other side does, which is what kills this process.
        std::io::stdin().read_exact(&mut [0]).unwrap();
    };
    let (path, parts) = (Path::new("opened"), [content.as_bytes()]);
    write_new(path, &parts, Overwrite::Yes, &mut progress).unwrap();
}

#[test]
fn a_killed_process_leaves_no_plaintext() {
    let bench = Bench::new();
    fs::write(bench.path("call.wav"), wav(300_000)).unwrap(); // more than a chunk of 1 MiB
    bench.sealed_here("sealed", Padding::OaepSha1);
    bench.unwrap(&bench.read("sealed").unwrap().recipients()[0]);
    fs::remove_file(bench.path("call.wav")).unwrap();
    fs::remove_file(bench.path("wrapped")).unwrap();
    fs::write(bench.path("opened"), b"from before").unwrap();
    let names = || {
        let entries = fs::read_dir(bench.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "recording_cms::damage::opens_half_way",
            "--nocapture",
        ])
        .current_dir(bench.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stdout = child.stdout.take().unwrap();
    while !said.contains("half way") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(names(), before);
    assert_eq!(bench.bytes("opened"), b"from before");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        prop_assert!(parse(&bytes).is_err());
        prop_assert!(parse(&[&[0x30, 0x80], &bytes[..]].concat()).is_err());
    }

    /// Messages of openssl's, in DER and in BER, with bytes changed, cut out and put in.
    #[test]
    fn no_change_to_a_message_panics(
        which in 0..GOLDEN.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3, any::<u8>()), 1..6),
    ) {
        let mut bytes = GOLDEN[which].0.to_vec();
        for (index, how, byte) in changes {
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        if let Ok(envelope) = parse(&bytes) {
            prop_assert!(!envelope.recipients().is_empty());
            drop(envelope.open(&[0; 32], &mut |_, _| ()));
        }
    }
}
