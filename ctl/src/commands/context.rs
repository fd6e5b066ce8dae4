//! `ctl context`.

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path, PathBuf},
};

use orchestra_proto::v1;
use orchestra_repo::{Checkout, mirrored_in, project_ref};
use orchestra_types::ProjectRef;
use serde_json::json;

use crate::{
    app::App,
    blocking::blocking,
    changing,
    client::patiently,
    error::{Error, OrFailed, Result},
    exit::Exit,
    repository::OrBroken,
    ui::{
        escape::{block, line},
        style::{Line, Style},
        time::counted,
    },
};

/// The documents that people edit; all others are the head's.
const EDITABLE: [&str; 2] = ["project_overview.md", "current_state.md"];

/// Look at the shared context of a project, or copy it from and to a head on another machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With a local head the project's context/ directory is kept up to date by itself, and edits there are
taken over before the next task. With a head on another machine, pull and push do it.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the documents, or one of them
    Show {
        /// The document, as current_state.md. Default: all, by name
        #[arg(value_name = "DOCUMENT")]
        document: Option<String>,
        #[command(flatten)]
        whose: Whose,
    },
    /// Write the documents into the project's context/ directory
    Pull(Whose),
    /// Send project_overview.md and current_state.md from the project's context/ directory
    Push(Whose),
}

#[derive(Debug, clap::Args)]
struct Whose {
    /// The project's directory. Default: the current directory
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    repo: Option<PathBuf>,
}

/// Shows, pulls or pushes.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    match args.command {
        Command::Show { document, whose } => show(app, document, whose).await,
        Command::Pull(whose) => pull(app, whose).await,
        Command::Push(whose) => push(app, whose).await,
    }
}

async fn show(app: &App, wanted: Option<String>, whose: Whose) -> Result<Exit> {
    let project = project(app, whose).await?;
    let documents = get(app, &project).await?;
    if let Some(name) = wanted {
        let text = documents.get(&name).ok_or_else(|| {
            let guess =
                crate::ui::suggest::did_you_mean(&name, documents.keys().map(String::as_str));
            Error::new(
                Exit::NotFound,
                format!("there is no document `{name}`{guess}"),
            )
        })?;
        return app.show(
            &json!({ "project": project.id, "documents": { name.as_str(): text } }),
            |_| crate::stored::print_text(&app.ui, text.as_bytes()),
        );
    }
    app.show(
        &json!({ "project": project.id, "documents": documents }),
        |_| {
            for (name, text) in &documents {
                app.ui
                    .line(&Line::of(Style::Bold, format!("── {} ", line(name))))?;
                app.ui.print(format!("{}\n\n", block(text.trim_end())))?;
            }
            Ok(())
        },
    )
}

async fn pull(app: &App, whose: Whose) -> Result<Exit> {
    let project = project(app, whose).await?;
    let documents = get(app, &project).await?;
    let mirror = app.config()?.context.directory;
    let dir = project.dir.join(&mirror);
    let to = dir.clone();
    let names: Vec<String> = documents.keys().cloned().collect();
    let top = project.dir.clone();
    blocking(move || {
        let ours = mirrored_in(&top, &mirror).or_failed(not_looked_at)?;
        if ours.is_empty() {
            return Err(not_ours(&to));
        }
        if let Some(checkout) = Checkout::discover(&top).or_broken(not_looked_at)? {
            checkout
                .exclude_from_git(&mirror)
                .or_failed(|| "failed to keep the context out of git".to_owned())?;
        }
        documents
            .iter()
            .try_for_each(|(name, text)| write(&to, name, text))
    })
    .await?;
    app.show(
        &json!({ "project": project.id, "directory": dir, "documents": names }),
        |_| {
            let text = format!(
                "{} in {}",
                counted(names.len() as u64, "document"),
                dir.display()
            );
            app.ui
                .line(&Line::of(Style::Good, "✓ pulled ").with(Style::Plain, text))
        },
    )
}

fn not_looked_at() -> String {
    "failed to look at the project's directory".to_owned()
}

/// What is in the directory is the project's own.
fn not_ours(dir: &Path) -> Error {
    let message = format!(
        "`{}` has files of the project's own: nothing is written there",
        dir.display()
    );
    Error::new(Exit::Refused, message).hint(
        "set `context.directory` in the configuration to a name that is free, or look at the \
         documents with `ctl context show`",
    )
}

async fn push(app: &App, whose: Whose) -> Result<Exit> {
    let project = project(app, whose).await?;
    let dir = project.dir.join(app.config()?.context.directory);
    let documents = editable(&dir)?;
    if documents.is_empty() {
        return Err(Error::new(
            Exit::NotFound,
            format!(
                "there is no {} in `{}`",
                EDITABLE.join(" or "),
                dir.display()
            ),
        )
        .hint("`ctl context pull` writes them there"));
    }
    let names: Vec<String> = documents.keys().cloned().collect();
    let client = app.connect().await?;
    let request = v1::PutContextRequest {
        project: project.id.to_string(),
        documents,
    };
    changing::patiently(async || client.admin().put_context(request.clone()).await).await?;
    app.show(
        &json!({ "project": project.id, "directory": dir, "documents": names }),
        |_| {
            app.ui
                .line(&Line::of(Style::Good, "✓ pushed ").with(Style::Plain, names.join(", ")))
        },
    )
}

async fn project(app: &App, whose: Whose) -> Result<ProjectRef> {
    let machine = app.machine()?;
    let dir = whose.repo.unwrap_or_else(|| PathBuf::from("."));
    blocking(move || {
        project_ref(&dir, &machine).or_broken(|| format!("failed to look at `{}`", dir.display()))
    })
    .await
}

async fn get(app: &App, project: &ProjectRef) -> Result<BTreeMap<String, String>> {
    let client = app.connect().await?;
    let request = v1::GetContextRequest {
        project: project.id.to_string(),
    };
    Ok(
        patiently(async || client.admin().get_context(request.clone()).await)
            .await?
            .documents,
    )
}

fn editable(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut documents = BTreeMap::new();
    for name in EDITABLE {
        match std::fs::read_to_string(dir.join(name)) {
            Ok(text) => drop(documents.insert(name.to_owned(), text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                return Err(Error::failed(format!(
                    "failed to read `{}`",
                    dir.join(name).display()
                ))
                .because(e));
            }
        }
    }
    Ok(documents)
}

/// Writes one document below `dir`, whole or not at all.
fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    let path = Path::new(name);
    if name.is_empty()
        || !path
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(Error::failed(format!(
            "the head sent a document with the name `{name}`, which leads elsewhere"
        )));
    }
    let path = dir.join(path);
    let failed = || format!("failed to write `{}`", path.display());
    let parent = path.parent().unwrap_or(dir);
    std::fs::create_dir_all(parent).or_failed(failed)?;
    let temp = tempfile::NamedTempFile::new_in(parent).or_failed(failed)?;
    std::fs::write(temp.path(), text).or_failed(failed)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(temp.path(), mode).or_failed(failed)?;
    temp.persist(&path).map(drop).or_failed(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_never_leaves_the_mirror() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = dir.path().join("context");
        for name in ["../evil", "/etc/evil", "", "a/../../evil"] {
            assert!(write(&mirror, name, "x").is_err(), "{name}");
        }
        write(&mirror, "agent_outputs/task_001_output.md", "text").unwrap();
        let read =
            std::fs::read_to_string(mirror.join("agent_outputs/task_001_output.md")).unwrap();
        assert_eq!(read, "text");
    }
}
