//! `ctl credentials`.

use orchestra_proto::{client::Credentials, v1};
use serde::Serialize;

use crate::{
    app::App,
    client::{Client, patiently, status_error},
    error::{Error, Result},
    exit::Exit,
    local::record,
};

/// The key with which `ctl` may call the head: who has a copy of it may do everything
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Rotate(Rotate),
}

/// Make a new key in the head's state directory, and refuse all earlier ones from now on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For a copy of the directory `client` that is lost or stolen. Run it on the head's machine: other
machines need a new copy of that directory afterwards. Workers are not concerned; `ctl workers revoke`
shuts one of those out.")]
struct Rotate {}

/// `ctl credentials rotate --json`.
#[derive(Debug, Serialize)]
struct Rotated {
    directory: String,
}

/// Makes new credentials.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let Command::Rotate(Rotate {}) = args.command;
    let dir = app.state.client();
    if record::head(&app.state)?.is_none() {
        return Err(not_here(app));
    }
    let before = key(app);
    let client = app.connect().await?;
    let answer = client
        .admin()
        .rotate_credentials(v1::RotateCredentialsRequest {})
        .await;
    let changed = key(app) != before;
    match answer {
        Ok(_) if !changed => return Err(elsewhere(app)),
        // The answer to an old key may not arrive: what counts is that the new one opens the door.
        Err(status) if !changed => return Err(status_error(&status)),
        Ok(_) | Err(_) => prove(&app.connect().await?).await?,
    }
    let directory = dir.display().to_string();
    let done = format!("there are new credentials in `{directory}`");
    app.show_done(
        &Rotated { directory },
        || done,
        |rotated| {
            app.ui
                .print(format!("new credentials in {}\n", rotated.directory))?;
            app.ui.next(
                "earlier ones are refused from now on; on other machines, copy this directory anew",
            );
            Ok(())
        },
    )
}

async fn prove(client: &Client) -> Result<()> {
    let status = patiently(async || client.admin().get_status(v1::GetStatusRequest {}).await);
    status.await.map(drop)
}

/// The key: a certificate may be made anew for the same one meanwhile.
fn key(app: &App) -> Option<String> {
    let stored = Credentials::load(&app.state.client());
    stored.ok().map(|credentials| credentials.key_pem)
}

/// The new key comes into the state directory of the head alone: whoever asks from elsewhere has none afterwards.
fn not_here(app: &App) -> Error {
    Error::new(
        Exit::Refused,
        format!("no head runs in `{}`, which would get the new key", app.state.path().display()),
    )
    .hint("run this on the head's machine, with its --state; all copies of `client` elsewhere are refused afterwards")
}

fn elsewhere(app: &App) -> Error {
    let dir = app.state.client();
    Error::failed(
        "the new credentials are on the head's machine, and this machine's are refused now",
    )
    .hint(format!(
        "copy the directory `client` of the head's state directory to `{}`",
        dir.display()
    ))
}
