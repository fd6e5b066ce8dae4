//! The Admin service: each call goes to the file of its group.

use std::sync::Arc;

use orchestra_proto::v1::{self, admin_server};
use tonic::{Request, Response, Streaming};

use super::{
    Services, accounts, backup, budgets, change, check, cluster, context, credentials, each,
    follow, garbage, list, manifest, purge, schedules, status::Result, stream::Stream, submit,
    watch,
};
use crate::security;

/// The Admin service.
pub(super) struct Admin {
    pub services: Arc<Services>,
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::ClusterStatus>> {
        cluster::status(&self.services).await.map(Response::new)
    }

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>> {
        let answer = submit::submit(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn submit_many(
        &self,
        request: Request<Streaming<v1::SubmitPart>>,
    ) -> Result<Response<v1::SubmitResponse>> {
        let answer = submit::submit_many(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Result<Response<v1::Task>> {
        let answer = change::get(&self.services, request.into_inner().id).await;
        answer.map(Response::new)
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>> {
        let answer = list::tasks(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn cancel_tasks(
        &self,
        request: Request<v1::CancelTasksRequest>,
    ) -> Result<Response<v1::CancelTasksResponse>> {
        let answer = each::cancel(&self.services, &request.into_inner().ids).await;
        answer.map(Response::new)
    }

    async fn retry_task(
        &self,
        request: Request<v1::RetryTaskRequest>,
    ) -> Result<Response<v1::Task>> {
        let answer = change::retry(&self.services, request.into_inner().id).await;
        answer.map(Response::new)
    }

    async fn retry_tasks(
        &self,
        request: Request<v1::RetryTasksRequest>,
    ) -> Result<Response<v1::RetryTasksResponse>> {
        let answer = each::retry(&self.services, &request.into_inner().ids).await;
        answer.map(Response::new)
    }

    async fn release_task(
        &self,
        request: Request<v1::ReleaseTaskRequest>,
    ) -> Result<Response<v1::Task>> {
        let answer = change::release(&self.services, request.into_inner().id).await;
        answer.map(Response::new)
    }

    async fn set_priority(
        &self,
        request: Request<v1::SetPriorityRequest>,
    ) -> Result<Response<v1::Task>> {
        let answer = change::set_priority(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn add_schedules(
        &self,
        request: Request<v1::AddSchedulesRequest>,
    ) -> Result<Response<v1::AddSchedulesResponse>> {
        let answer = schedules::add(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn list_schedules(
        &self,
        request: Request<v1::ListSchedulesRequest>,
    ) -> Result<Response<v1::ListSchedulesResponse>> {
        let answer = schedules::list(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn change_schedule(
        &self,
        request: Request<v1::ChangeScheduleRequest>,
    ) -> Result<Response<v1::ChangeScheduleResponse>> {
        let answer = schedules::change(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>> {
        cluster::workers(&self.services).await.map(Response::new)
    }

    async fn set_availability(
        &self,
        request: Request<v1::SetAvailabilityRequest>,
    ) -> Result<Response<v1::Worker>> {
        let answer = cluster::set_availability(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn remove_worker(
        &self,
        request: Request<v1::RemoveWorkerRequest>,
    ) -> Result<Response<v1::RemoveWorkerResponse>> {
        let answer = cluster::remove_worker(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn collect_garbage(
        &self,
        request: Request<v1::CollectGarbageRequest>,
    ) -> Result<Response<v1::Garbage>> {
        let answer = garbage::collect(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn list_agents(
        &self,
        _: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>> {
        cluster::agents(&self.services).await.map(Response::new)
    }

    async fn get_manifest(
        &self,
        request: Request<v1::GetManifestRequest>,
    ) -> Result<Response<v1::Manifest>> {
        let answer = manifest::get(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    type FollowEventsStream = Stream<v1::EventBatch>;

    async fn follow_events(
        &self,
        request: Request<v1::FollowEventsRequest>,
    ) -> Result<Response<Self::FollowEventsStream>> {
        let stream = follow::start(Arc::clone(&self.services), request.into_inner()).await;
        stream.map(Response::new)
    }

    type WatchTasksStream = Stream<v1::WatchResponse>;

    async fn watch_tasks(
        &self,
        request: Request<v1::WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>> {
        let stream = watch::start(Arc::clone(&self.services), request.into_inner()).await;
        stream.map(Response::new)
    }

    async fn get_context(
        &self,
        request: Request<v1::GetContextRequest>,
    ) -> Result<Response<v1::Context>> {
        let answer = context::get(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn put_context(
        &self,
        request: Request<v1::PutContextRequest>,
    ) -> Result<Response<v1::Context>> {
        let answer = context::put(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>> {
        let answer = credentials::create_token(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn list_tokens(
        &self,
        _request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>> {
        Ok(Response::new(credentials::list_tokens(&self.services)))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::IssuedToken>> {
        let answer = credentials::revoke_token(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn revoke_worker(
        &self,
        request: Request<v1::RevokeWorkerRequest>,
    ) -> Result<Response<v1::RevokeWorkerResponse>> {
        let answer = credentials::revoke_worker(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn rotate_credentials(
        &self,
        request: Request<v1::RotateCredentialsRequest>,
    ) -> Result<Response<v1::RotateCredentialsResponse>> {
        let caller = security::caller(&request)?;
        let answer = credentials::rotate(&self.services, caller).await;
        answer.map(Response::new)
    }

    async fn record_apply(
        &self,
        request: Request<v1::RecordApplyRequest>,
    ) -> Result<Response<v1::Task>> {
        let answer = change::record_apply(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn list_accounts(
        &self,
        _: Request<v1::ListAccountsRequest>,
    ) -> Result<Response<v1::ListAccountsResponse>> {
        accounts::list(&self.services).await.map(Response::new)
    }

    async fn set_account(
        &self,
        request: Request<v1::SetAccountRequest>,
    ) -> Result<Response<v1::Account>> {
        let answer = accounts::set(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn resume_account(
        &self,
        request: Request<v1::ResumeAccountRequest>,
    ) -> Result<Response<v1::Account>> {
        let answer = accounts::resume(&self.services, &request.into_inner().name).await;
        answer.map(Response::new)
    }

    type BackupStream = Stream<v1::BackupChunk>;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>> {
        let stream = backup::start(&self.services, request.into_inner());
        Ok(Response::new(stream))
    }

    async fn purge(
        &self,
        request: Request<v1::PurgeRequest>,
    ) -> Result<Response<v1::PurgeResponse>> {
        let answer = purge::purge(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn set_task_budget(
        &self,
        request: Request<v1::SetTaskBudgetRequest>,
    ) -> Result<Response<v1::Task>> {
        let answer = budgets::set_task(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn list_budgets(
        &self,
        _: Request<v1::ListBudgetsRequest>,
    ) -> Result<Response<v1::ListBudgetsResponse>> {
        budgets::list(&self.services).await.map(Response::new)
    }

    async fn set_project_budget(
        &self,
        request: Request<v1::SetProjectBudgetRequest>,
    ) -> Result<Response<v1::ProjectBudget>> {
        let answer = budgets::set_project(&self.services, request.into_inner()).await;
        answer.map(Response::new)
    }

    type FollowCheckStream = Stream<v1::CheckUpdate>;

    async fn follow_check(
        &self,
        _: Request<v1::CheckRequest>,
    ) -> Result<Response<Self::FollowCheckStream>> {
        Ok(Response::new(check::follow(&self.services)))
    }

    async fn check(&self, _: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>> {
        check::check(&self.services).await.map(Response::new)
    }

    async fn shutdown(
        &self,
        request: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::ShutdownResponse>> {
        cluster::shutdown(&self.services, request.into_inner().now);
        Ok(Response::new(v1::ShutdownResponse {}))
    }
}
