//! The system prompt.

use std::{fs, path::Path};

/// Most bytes of a repository's own instructions.
const AGENTS_MD_BYTES_MAX: usize = 32 * 1024;

/// The system prompt of an agent that works in `root`.
pub fn system_prompt(root: &Path, role: Role) -> String {
    let mut prompt = format!(
        "You are a coding agent. You work alone and unattended: nobody answers questions, so decide \
         yourself and go on until the task is done. Change files with the tools, not by describing \
         changes. Look before you change, keep changes small, and check your work by running what \
         the repository offers. When you are done, answer without a tool call: say what you did, \
         what you checked and what is left, in a few sentences.\n\n\
         Working directory: {}\nPaths are relative to it. Commands start in it and get no input.\n",
        root.display()
    );
    if role == Role::Child {
        prompt.push_str(
            "\nYou are the child of another agent. You see nothing of its conversation; your final \
             text is all that it gets from you.\n",
        );
    }
    if let Some(text) = repository_instructions(root) {
        prompt.push_str(&format!(
            "\nThe repository's own instructions (AGENTS.md):\n{text}\n"
        ));
    }
    prompt
}

/// Whose agent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that the prompt is for.
    Main,
    /// The child of another.
    Child,
}

fn repository_instructions(root: &Path) -> Option<String> {
    let bytes = fs::read(root.join("AGENTS.md")).ok()?;
    let cut = &bytes[..bytes.len().min(AGENTS_MD_BYTES_MAX)];
    Some(String::from_utf8_lossy(cut).into_owned())
}
