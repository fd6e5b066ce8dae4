//! `ctl backup`.

use std::path::{Path, PathBuf};

use orchestra_proto::v1;
use serde::Serialize;
use tokio::{fs::File, io::AsyncWriteExt};

use crate::{
    app::App,
    client::status_error,
    error::{Error, OrFailed, Result},
    exit::Exit,
    json::time::Time,
    ui::{
        bar::Bar,
        style::{Line, Style},
        time::counted,
    },
};

/// Write everything that the head keeps into one file, while it goes on working
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file holds the tasks as they were at one moment, and the artifacts, events and context that
belong to them; docs/backup.md says what is not in it. `ctl restore FILE` puts it back. With --keys
whoever has the file can act as the cluster: keep it as you keep a private key.")]
pub struct Args {
    /// The file to make; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Put the cluster's certificates and secret keys in too, so that workers and clients of today
    /// know the restored head
    #[arg(long)]
    keys: bool,
}

/// `ctl backup --json`.
#[derive(Debug, Serialize)]
struct Made {
    file: PathBuf,
    bytes: u64,
    rows: u64,
    blobs: u64,
    missing: u64,
    files: u64,
    cluster: String,
    created_at: Time,
    keys: bool,
}

/// Makes a backup.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    if args.file.exists() {
        let why = format!("`{}` is there already", args.file.display());
        return Err(Error::new(Exit::Refused, why).hint("name another file"));
    }
    let part = Part(part_of(&args.file)?);
    let (bytes, summary) = write(app, &part.0, args.keys).await?;
    put_in_place(&part.0, &args.file).await?;
    let made = Made {
        file: args.file,
        bytes,
        rows: summary.rows,
        blobs: summary.blobs,
        missing: summary.missing,
        files: summary.files,
        cluster: summary.cluster,
        created_at: Time::from_ms(summary.created_at_ms),
        keys: args.keys,
    };
    if made.missing > 0 {
        let files = counted(made.missing, "stored file");
        app.ui.warn(format!(
            "{files} that tasks refer to were not there; `ctl check` names them"
        ));
    }
    app.show(&made, |made| {
        let text = format!(
            "{}: {}, {}, {}",
            made.file.display(),
            counted(made.bytes, "byte"),
            counted(made.rows, "row"),
            counted(made.blobs + made.files, "file"),
        );
        app.ui.line(&Line::of(Style::Plain, text))
    })
}

/// A file on its way. Half a backup is none: it goes with this, also on Ctrl-C.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Behind a success it has another name.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn part_of(file: &Path) -> Result<PathBuf> {
    let Some(name) = file.file_name() else {
        return Err(Error::usage(format!("`{}` names no file", file.display())));
    };
    let mut part = std::ffi::OsString::from(".");
    part.push(name);
    part.push(format!(".{}.part", std::process::id()));
    Ok(file.with_file_name(part))
}

async fn write(app: &App, part: &Path, keys: bool) -> Result<(u64, v1::BackupSummary)> {
    let failed = || format!("failed to write `{}`", part.display());
    let client = app.connect().await?;
    let mut bar = Bar::new(app.ui, "backing up");
    let answer = client.admin().backup(v1::BackupRequest { keys }).await;
    let mut chunks = answer.map_err(|s| status_error(&s))?.into_inner();
    let mut options = File::options();
    let options = options.write(true).create_new(true).mode(0o600);
    let opened = options.open(part).await.or_failed(failed);
    let mut file =
        opened.map_err(|error| error.hint("name a file in a directory that you may write to"))?;
    let mut bytes = 0;
    let mut summary = None;
    while let Some(chunk) = chunks.message().await.map_err(|s| status_error(&s))? {
        file.write_all(&chunk.data).await.or_failed(failed)?;
        bytes += chunk.data.len() as u64;
        bar.show(bytes, chunk.about_bytes);
        summary = chunk.summary;
    }
    let summary = summary.ok_or_else(|| {
        Error::failed("the head ended before the backup was whole").hint("try again")
    })?;
    file.flush().await.or_failed(failed)?;
    file.sync_all().await.or_failed(failed)?;
    Ok((bytes, summary))
}

async fn put_in_place(part: &Path, file: &Path) -> Result<()> {
    let failed = || format!("failed to write `{}`", file.display());
    tokio::fs::rename(part, file).await.or_failed(failed)?;
    let above = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = File::open(above.unwrap_or(Path::new("."))).await;
    dir.or_failed(failed)?.sync_all().await.or_failed(failed)
}
