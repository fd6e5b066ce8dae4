//! What is said of executable bits that the user's git does not see.

use std::path::PathBuf;

use orchestra_repo::{Bit, Checkout, unseen_bits};
use orchestra_types::shell;

use crate::{
    app::App,
    blocking::blocking,
    client::Client,
    error::{OrFailed, Result},
    json::{manifest::File, task::Task},
};

/// How many files are named.
const NAMED_MAX: usize = 8;

/// How they come into a commit; none where there are none.
pub fn words(unseen: &[Bit]) -> Option<String> {
    let of = |is_executable: bool| {
        let with = unseen
            .iter()
            .filter(|bit| bit.is_executable == is_executable);
        let paths: Vec<&str> = with.map(|bit| bit.path.as_str()).collect();
        add(&paths, if is_executable { "+x" } else { "-x" })
    };
    let commands: Vec<String> = [true, false].into_iter().filter_map(of).collect();
    (!commands.is_empty()).then(|| {
        format!(
            "git does not look at executable bits here (core.fileMode is false), and a commit would leave those of \
             the change out: {}, at the top of the repository, takes them along",
            commands.join(" and ")
        )
    })
}

/// Says it of a task whose change the head has put into the checkout on this machine. Where that cannot be
/// told, nothing is said: the change is there.
pub async fn say(app: &App, client: &Client, task: &Task) {
    if let Ok(unseen) = of(app, client, task).await
        && let Some(words) = words(&unseen)
    {
        app.ui.warn(words);
    }
}

async fn of(app: &App, client: &Client, task: &Task) -> Result<Vec<Bit>> {
    let is_applied = task.apply.result.as_deref() == Some("applied");
    let machine = app.machine()?;
    let here = task
        .project
        .as_ref()
        .filter(|p| p.machine == machine.as_str());
    let (true, Some(project), Some(attempt)) = (is_applied, here, task.of_result()) else {
        return Ok(Vec::new());
    };
    let files = client.files(task.id, attempt.number).await?.files;
    let files: Vec<(String, u32)> = files.iter().filter_map(mode).collect();
    let dir = PathBuf::from(&project.dir);
    blocking(move || {
        let failed = || format!("failed to look at `{}`", dir.display());
        match Checkout::discover(&dir).or_failed(failed)? {
            Some(checkout) => unseen_bits(&checkout, &files).or_failed(failed),
            None => Ok(Vec::new()),
        }
    })
    .await
}

/// The path and the mode of a file that is there now.
fn mode(file: &File) -> Option<(String, u32)> {
    let mode = u32::from_str_radix(&file.mode, 8).ok()?;
    Some((file.path.clone(), mode))
}

fn add(paths: &[&str], chmod: &str) -> Option<String> {
    let named: String = paths
        .iter()
        .take(NAMED_MAX)
        .map(|path| format!(" {}", shell::word(path)))
        .collect();
    let more = match paths.len() {
        0 => return None,
        1..=NAMED_MAX => String::new(),
        all => format!(" and {} more", all - NAMED_MAX),
    };
    Some(format!("`git add --chmod={chmod}{named}`{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_each_file_with_its_bit() {
        let bit = |path: &str, is_executable| Bit {
            path: path.to_owned(),
            is_executable,
        };
        let said = words(&[bit("a b", true), bit("c", false), bit("d", true)]).unwrap();
        let commands = "`git add --chmod=+x 'a b' d` and `git add --chmod=-x c`, at the top";
        assert!(said.contains(commands), "{said}");
        assert_eq!(words(&[]), None);
        let many: Vec<Bit> = (0..10).map(|at| bit(&at.to_string(), true)).collect();
        assert!(words(&many).unwrap().contains(" 7` and 2 more"));
    }
}
