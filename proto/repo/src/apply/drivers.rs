//! Files that the user's git does not merge line by line, or with a program of the user's: attributes say so
//! (`-merge`, `merge=NAME`), and a merge outside of the checkout does not look at them.

use std::collections::BTreeSet;

use super::{Work, paths};
use crate::{
    error::Result,
    git::Input,
    manifest::{Renames, diff},
};

/// Drivers that git itself has. Without a conflict they all do the same.
const BUILT_IN: [&[u8]; 2] = [b"text", b"union"];

impl Work<'_> {
    /// The files that are in `merged` as neither the tree `here` nor the change has them, and that the user's git
    /// would have merged otherwise.
    pub(super) fn merged_otherwise(&self, here: &str, merged: &str) -> Result<BTreeSet<Vec<u8>>> {
        let git = self.quarantine.git();
        let differing = |side: &str| -> Result<BTreeSet<Vec<u8>>> {
            Ok(paths(&diff(git, side, merged, Renames::Ignore)?).collect())
        };
        let both = &differing(here)? & &differing(self.change.commit)?;
        if both.is_empty() {
            return Ok(both);
        }
        let input: Vec<u8> = both
            .iter()
            .flat_map(|path| [path.as_slice(), b"\0"].concat())
            .collect();
        let user = self.checkout.git();
        let args = ["check-attr", "-z", "--stdin", "merge"];
        let output = user.output_of(&args, Input::Bytes(&input))?;
        // A value may be empty: not as other records.
        let fields: Vec<&[u8]> = output.split(|byte| *byte == 0).collect();
        let mut otherwise = BTreeSet::new();
        for of in fields.chunks_exact(3) {
            let is_otherwise = match of[2] {
                b"unset" | b"binary" => true,
                b"unspecified" | b"set" => false,
                name if name.is_empty() || BUILT_IN.contains(&name) => false,
                name => self.has_driver(&String::from_utf8_lossy(name))?,
            };
            if is_otherwise {
                otherwise.insert(of[0].to_vec());
            }
        }
        Ok(otherwise)
    }

    /// Whether a program is set up under this name. Without one git merges lines.
    fn has_driver(&self, name: &str) -> Result<bool> {
        let key = format!("merge.{name}.driver");
        let asked = ["config", "--get", &key];
        Ok(self.checkout.git().ended(&asked, Input::Nothing)?.code == 0)
    }
}
