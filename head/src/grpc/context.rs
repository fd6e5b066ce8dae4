//! The shared context of projects, for `ctl context pull` and `push`.

use std::{collections::BTreeMap, sync::Arc};

use orchestra_proto::{convert, v1};
use orchestra_types::ProjectId;

use super::{
    Services,
    status::{self, Result},
};
use crate::context::{Error, Store};

type Documents = BTreeMap<String, String>;

pub(super) async fn get(
    services: &Services,
    request: v1::GetContextRequest,
) -> Result<v1::Context> {
    with_store(services, &request.project, |context, project| {
        context.get(project)
    })
    .await
}

/// Answers what the context is afterwards.
pub(super) async fn put(
    services: &Services,
    request: v1::PutContextRequest,
) -> Result<v1::Context> {
    with_store(services, &request.project, move |context, project| {
        context.put(project, &request.documents)?;
        context.get(project)
    })
    .await
}

async fn with_store<F>(services: &Services, project: &str, work: F) -> Result<v1::Context>
where
    F: FnOnce(&Store, &ProjectId) -> std::result::Result<Documents, Error> + Send + 'static,
{
    let id: ProjectId = convert::name("project", project).map_err(|e| status::refused(&e))?;
    let context = Arc::clone(&services.context);
    let done = tokio::task::spawn_blocking(move || work(&context, &id)).await;
    let done = done.map_err(|_| status::internal("failed to read the context"))?;
    Ok(v1::Context {
        project: project.to_owned(),
        documents: done.map_err(|e| status::context(&e))?,
    })
}
