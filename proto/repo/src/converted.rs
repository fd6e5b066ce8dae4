//! Files that git changes on their way into a work tree, because `.gitattributes` says so: agents get them
//! as it keeps them.

use crate::{
    error::Result,
    git::{Git, Input, records},
};

/// Where attributes are, in whichever directory.
const ATTRIBUTES: &[u8] = b".gitattributes";

/// The files of an index that are other in every checkout.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    /// They have CRLF there, and LF here.
    pub line_ends: Vec<Vec<u8>>,
    /// They have another encoding there, and UTF-8 here.
    pub encoding: Vec<Vec<u8>>,
}

/// Finds them. Nobody pays for it who has no such attributes: `paths` are all of the index.
pub(crate) fn converted<'p>(
    git: &Git,
    mut paths: impl Iterator<Item = &'p [u8]>,
) -> Result<Converted> {
    let mut converted = Converted::default();
    if !paths.any(|path| path.rsplit(|b| *b == b'/').next() == Some(ATTRIBUTES)) {
        return Ok(converted);
    }
    let git = git.clone().env("GIT_LITERAL_PATHSPECS", "0");
    if is_said(&git, "eol=crlf")? {
        let args = ["ls-files", "-z", "--eol", "--", ":(top,attr:eol=crlf)"];
        let output = git.output(&args)?;
        converted.line_ends = records(&output).filter_map(with_lf).collect();
    }
    if is_said(&git, "working-tree-encoding")? {
        let none = ":(top,exclude,attr:!working-tree-encoding)";
        let output = git.output(&["ls-files", "-z", "--", ":(top)", none])?;
        converted.encoding = records(&output).map(<[u8]>::to_vec).collect();
    }
    Ok(converted)
}

/// Whether a file of attributes has this text.
fn is_said(git: &Git, text: &str) -> Result<bool> {
    let files = ":(top,glob)**/.gitattributes";
    let args = ["grep", "--cached", "--quiet", "-F", "-e", text, "--", files];
    Ok(git.ended(&args, Input::Nothing)?.code == 0)
}

/// The path in a line of `ls-files --eol`, if the file has lines that end with LF and git converts it.
fn with_lf(line: &[u8]) -> Option<Vec<u8>> {
    let tab = line.iter().position(|b| *b == b'\t')?;
    let facts = str::from_utf8(&line[..tab]).ok()?;
    let mut words = facts.split_whitespace();
    let has_lf = matches!(words.next()?, "i/lf" | "i/mixed");
    (has_lf && !words.any(|word| word == "attr/-text")).then(|| line[tab + 1..].to_vec())
}
