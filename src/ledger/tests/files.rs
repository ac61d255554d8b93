//! The state directory: who may hold it, what may be in it, what is never made.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn a_missing_ledger_is_an_error_and_never_made() {
    let site = Site::new();
    assert!(site.refusal().contains("run kekd init for a new instance"));
    assert!(!site.dir().exists());
    drop(Vacancy::claim(&site.dir()).unwrap());
    let found = site.refusal();
    assert!(
        found.contains("ledger.db; found no file; kekd never makes one"),
        "{found}"
    );
    assert!(!site.file().exists());
}

#[test]
fn a_ledger_is_never_made_over_another() {
    let site = Site::born();
    let found = Vacancy::claim(&site.dir()).err().unwrap().to_string();
    assert!(found.contains("expected no ledger; found"), "{found}");
    assert!(site.open().is_ok());
}

#[test]
fn an_unfinished_birth_is_told_and_never_taken_for_a_ledger() {
    let site = Site::new();
    let draft = Draft::new(vec![site.birth(), recordings()], NOW).unwrap();
    let signature = site.sign(&draft.state().checkpoint().unwrap().text());
    let vacancy = Vacancy::claim(&site.dir()).unwrap();
    drop(draft.stage(vacancy, &signature).unwrap());
    let again = Vacancy::claim(&site.dir()).err().unwrap().to_string();
    for found in [site.refusal(), again] {
        assert!(
            found.contains("ledger.db.new, left by a kekd init"),
            "{found}"
        );
    }
}

#[test]
fn a_birth_needs_a_right_signature_and_takes_no_other_place() {
    let site = Site::new();
    let draft = || Draft::new(vec![site.birth()], NOW).unwrap();
    let vacancy = Vacancy::claim(&site.dir()).unwrap();
    assert!(draft().stage(vacancy, &[7; 64]).is_err());
    let vacancy = Vacancy::claim(&site.dir()).unwrap();
    let signature = site.sign(&draft().state().checkpoint().unwrap().text());
    let staged = draft().stage(vacancy, &signature).unwrap();
    std::fs::write(site.file(), "something else").unwrap();
    let found = staged.commit().err().unwrap().to_string();
    assert!(
        found.contains("cannot rename the staged ledger to"),
        "{found}"
    );
    assert_eq!(std::fs::read(site.file()).unwrap(), b"something else");
}

#[test]
fn a_second_process_is_kept_out_and_told_who_is_in() {
    let site = Site::born();
    let first = site.open().unwrap();
    let found = site.refusal();
    let holder = format!("held by process {}", std::process::id());
    assert!(found.contains(&holder), "{found}");
    assert!(Vacancy::claim(&site.dir()).is_err());
    drop(first);
    site.open().unwrap();
}

#[test]
fn a_directory_open_to_others_is_refused() {
    let site = Site::born();
    for (mode, verdict) in [(0o750, false), (0o701, false), (0o700, true)] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(site.dir(), permissions).unwrap();
        assert_eq!(site.open().is_ok(), verdict, "{mode:o}");
    }
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(site.file()), 0o600);
    assert_eq!(mode(site.dir().join(LOCK_FILE)), 0o600);
}

#[test]
fn files_that_are_no_ledger_are_refused() {
    let site = Site::born();
    site.tamper("PRAGMA user_version = 2");
    assert!(site.refusal().contains("format version 1; found version 2"));
    site.tamper("PRAGMA user_version = 1; PRAGMA application_id = 7");
    assert!(site.refusal().contains("(0x00000007)"));
    for content in [&b""[..], b"x", &[0; 5000]] {
        let site = Site::born();
        std::fs::write(site.file(), content).unwrap();
        assert!(site.open().is_err(), "{} bytes", content.len());
    }
    let site = Site::born();
    let whole = std::fs::read(site.file()).unwrap();
    for len in (0..whole.len()).step_by(1024) {
        std::fs::write(site.file(), whole.get(..len).unwrap()).unwrap();
        assert!(site.open().is_err(), "cut to {len} bytes");
    }
}
