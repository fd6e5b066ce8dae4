//! Filters that the user's git runs between a repository and its work tree: for encrypted files, or
//! large ones. Agents never get what they make, and they never get what an agent made.

use std::{collections::BTreeSet, ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::{
    error::Result,
    git::{Git, Input, records},
};

/// The filters that are set up here, by name: with others git does nothing.
pub(crate) fn set_up(git: &Git) -> Result<BTreeSet<String>> {
    let keys = keys(git)?;
    let name = |key: &[u8]| {
        let key = String::from_utf8_lossy(key).into_owned();
        let (name, what) = key.strip_prefix("filter.")?.rsplit_once('.')?;
        matches!(what, "smudge" | "process").then(|| name.to_owned())
    };
    Ok(records(&keys).filter_map(name).collect())
}

/// git with every filter switched off.
pub(crate) fn off(git: Git) -> Result<Git> {
    let keys = keys(&git)?;
    let mut count = 0;
    let mut git = git;
    for key in records(&keys) {
        let value = if key.ends_with(b".required") {
            "false"
        } else {
            ""
        };
        git = git
            .env(format!("GIT_CONFIG_KEY_{count}"), OsStr::from_bytes(key))
            .env(format!("GIT_CONFIG_VALUE_{count}"), value);
        count += 1;
    }
    Ok(git.env("GIT_CONFIG_COUNT", count.to_string()))
}

/// Everything that the configuration says of filters.
fn keys(git: &Git) -> Result<Vec<u8>> {
    let args = [
        "config",
        "-z",
        "--name-only",
        "--get-regexp",
        r"^filter\..*\.",
    ];
    Ok(git.ended(&args, Input::Nothing)?.value)
}

/// Those of these paths that one of the filters is for.
pub(crate) fn filtered(
    git: &Git,
    filters: &BTreeSet<String>,
    paths: &[&[u8]],
) -> Result<BTreeSet<Vec<u8>>> {
    if filters.is_empty() || paths.is_empty() {
        return Ok(BTreeSet::new());
    }
    let input = paths
        .iter()
        .flat_map(|path| [*path, b"\0"])
        .collect::<Vec<_>>()
        .concat();
    let args = ["check-attr", "-z", "--stdin", "filter"];
    let output = git.output_of(&args, Input::Bytes(&input))?;
    let fields: Vec<&[u8]> = records(&output).collect();
    let is_filtered = |of: &&[&[u8]]| {
        let value = of.get(2).map(|value| String::from_utf8_lossy(value));
        value.is_some_and(|value| filters.contains(value.as_ref()))
    };
    let all = fields.chunks(3).filter(is_filtered);
    Ok(all.map(|of| of[0].to_vec()).collect())
}
