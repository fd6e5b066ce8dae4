//! Which version and commit a program is built from. A crate of its own, because it is made anew with
//! each commit that a release is built from, and what depends on it too.

/// The version, and where it is known the commit and its day: `0.1.0 (4f2a91c03d 2026-09-21)`.
pub const LONG: &str = env!("ORCHESTRA_LONG_VERSION");

/// The commit and its day; none in a debug build, and where nobody knew it.
pub const COMMIT: Option<&str> = option_env!("ORCHESTRA_BUILT_FROM");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_first_and_the_commit_stands_behind_it() {
        let rest = LONG.strip_prefix(env!("CARGO_PKG_VERSION")).unwrap();
        match COMMIT {
            Some(commit) => assert_eq!(rest, format!(" ({commit})")),
            None => assert!(["", " (debug build)"].contains(&rest), "{rest}"),
        }
    }
}
