//! Removing what is due, when a person asks.

use orchestra_proto::v1;

use super::{
    Services,
    status::{self, Result},
};
use crate::keeping::Mode;

/// Most ids in an answer.
const IDS_MAX: usize = 1000;

pub(super) async fn purge(
    services: &Services,
    request: v1::PurgeRequest,
) -> Result<v1::PurgeResponse> {
    let mode = if request.dry_run {
        Mode::Look
    } else {
        Mode::Remove
    };
    let now = services.engine.now();
    let due = services.engine.read(move |view| {
        let mut tasks = 0;
        let mut ids = Vec::new();
        for id in view.core.forgettable(now) {
            tasks += 1;
            if ids.len() < IDS_MAX {
                ids.push(id.0);
            }
        }
        Ok((tasks, ids))
    });
    let (tasks, task_ids) = due.await.map_err(status::read)?;
    let swept = services.keeper.sweep(mode).await;
    let swept = swept.map_err(|e| status::failed("failed to look for what nobody needs", &e))?;
    Ok(v1::PurgeResponse {
        tasks,
        task_ids,
        events_of: swept.events,
        files: swept.files,
        bytes: swept.bytes,
        outputs: swept.outputs,
        output_bytes: swept.output_bytes,
    })
}
