//! What `#[agent]` accepts, and what it says about the rest.
//!
//! Each case is a small program in a folder by topic, named after the rule that it shows: those in `pass/` compile and
//! run, those in `fail/` do not compile and say what stands in the `.stderr` beside them, in the macros' own words. The
//! words of those in `fail-rustc/` are the compiler's, most of them around a sentence of ours, and change from version to
//! version: they run on one version only, and `MAS_TEST_REQUIRE=all` makes another one fail. `TRYBUILD=overwrite cargo
//! test -p mas-ui-tests` writes the `.stderr` files anew.

use std::io::Write as _;
use std::process::Command;

/// The compiler whose words stand in `fail-rustc/`.
const RUSTC: &str = "1.95";

/// Set to `all` where nothing may be left out.
const REQUIRE: &str = "MAS_TEST_REQUIRE";

#[test]
fn every_case_does_what_its_name_says() {
    let cases = trybuild::TestCases::new();
    cases.pass("pass/*/*.rs");
    cases.compile_fail("fail/*/*.rs");
    match rustc_version() {
        version if is_release(&version, RUSTC) => cases.compile_fail("fail-rustc/*/*.rs"),
        version => {
            // Straight to the terminal: the test harness would hold a print back.
            let note = format!(
                "note: fail-rustc/ is skipped, its texts are those of rustc {RUSTC} and this is `{version}`\n"
            );
            std::io::stderr()
                .write_all(note.as_bytes())
                .expect("stderr takes a line");
        }
    }
}

#[test]
fn nothing_is_skipped_where_all_is_required() {
    if std::env::var_os(REQUIRE).is_some_and(|required| required == "all") {
        let version = rustc_version();
        assert!(
            is_release(&version, RUSTC),
            "{REQUIRE}=all wants fail-rustc/, whose texts are those of rustc {RUSTC}: this is `{version}`"
        );
    }
}

/// What the compiler that cargo uses says about itself.
fn rustc_version() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .output()
        .expect("rustc runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether `rustc 1.95.0 (..)` is a release of 1.95.
fn is_release(version: &str, release: &str) -> bool {
    version
        .strip_prefix("rustc ")
        .and_then(|version| version.strip_prefix(release))
        .is_some_and(|patch| {
            patch.starts_with('.')
                && !patch
                    .split(' ')
                    .next()
                    .is_some_and(|patch| patch.contains('-'))
        })
}

#[test]
fn only_releases_of_the_named_version_count() {
    assert!(is_release("rustc 1.95.0 (59807616e 2026-04-14)", "1.95"));
    assert!(is_release("rustc 1.95.3", "1.95"));
    assert!(!is_release(
        "rustc 1.95.0-nightly (59807616e 2026-04-14)",
        "1.95"
    ));
    assert!(!is_release("rustc 1.950.0", "1.95"));
    assert!(!is_release("rustc 1.96.0", "1.95"));
    assert!(!is_release("", "1.95"));
}
