//! Finds the commit that a release build is made from: `ORCHESTRA_COMMIT` where a packager says it, else
//! what git says. Without a checkout, or without git, there is none. A debug build has none either: it
//! is mostly of what is in no commit yet, and would be made anew after each one.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

const NAMED: &str = "ORCHESTRA_COMMIT";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={NAMED}");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let named = env::var(NAMED).ok().filter(|commit| !commit.is_empty());
    let commit = match (named, release) {
        (Some(named), _) => Some(named),
        (None, true) => checkout().and_then(|root| commit(&root)),
        (None, false) => None,
    };
    let long = match (&commit, release) {
        (Some(commit), _) => format!("{version} ({commit})"),
        (None, true) => version,
        (None, false) => format!("{version} (debug build)"),
    };
    println!("cargo:rustc-env=ORCHESTRA_LONG_VERSION={long}");
    if let Some(commit) = commit {
        println!("cargo:rustc-env=ORCHESTRA_BUILT_FROM={commit}");
    }
}

/// The top of our own checkout: a copy of these files within another repository is none of it.
fn checkout() -> Option<PathBuf> {
    let own = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?)
        .join("../..")
        .canonicalize()
        .ok()?;
    let top = PathBuf::from(git(&own, &["rev-parse", "--show-toplevel"])?);
    (top.canonicalize().ok()? == own).then_some(own)
}

/// The commit and its day. Cargo looks again when it is another one: git writes a line of the log of
/// HEAD each time, in a work tree of its own too, and where it keeps no log, the references change.
fn commit(root: &Path) -> Option<String> {
    let path = |name| Some(root.join(git(root, &["rev-parse", "--git-path", name])?));
    let there = |name| path(name).filter(|path| path.exists());
    let mut watched = vec![there("HEAD")];
    match there("logs/HEAD") {
        Some(log) => watched.push(Some(log)),
        None => watched.extend(["refs/heads", "packed-refs", "reftable"].map(there)),
    }
    for path in watched.into_iter().flatten() {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    git(root, &["log", "-1", "--abbrev=10", "--format=%h %cs"])
}

/// What git says; none where it fails, or is not there.
fn git(dir: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .current_dir(dir)
        .args(arguments)
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let said = said.trim_end();
    (output.status.success() && !said.is_empty()).then(|| said.to_owned())
}
