//! `ctl workers remove`.

use orchestra_proto::v1;

use super::{Named, Workers, in_words};
use crate::{
    app::App,
    changing,
    error::Result,
    exit::Exit,
    ui::{
        escape::line,
        style::{Line, Style},
    },
};

/// Does it, and says which.
pub async fn run(app: &App, named: Named) -> Result<Exit> {
    let client = app.connect().await?;
    let known = client.workers().await?;
    let workers: Vec<_> = named.of(&known)?.into_iter().cloned().collect();
    let (mut removed, mut failed) = (Vec::new(), None);
    for worker in workers {
        let request = v1::RemoveWorkerRequest {
            worker: worker.id.to_string(),
        };
        let done =
            changing::patiently(async || client.admin().remove_worker(request.clone()).await).await;
        match done {
            // An answer may have been lost.
            Err(error) if error.exit() != Exit::NotFound => {
                failed = Some(error);
                break;
            }
            Ok(_) | Err(_) => removed.push(worker),
        }
    }
    let workers = removed;
    // Also of those that were removed before one was refused.
    let done = in_words(&workers, "removed");
    app.show_done(
        &Workers { workers },
        || done,
        |document| {
            for worker in &document.workers {
                let removed =
                    Line::of(Style::Good, "removed ").with(Style::Bold, line(&worker.name));
                app.ui.line(&removed)?;
            }
            Ok(())
        },
    )?;
    failed.map_or(Ok(Exit::Ok), Err)
}
