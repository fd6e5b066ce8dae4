//! Calls that change something. Where the head goes away before it answers one, it may have done it or
//! not: that is told as what it is, with what to do, and not as a head that never heard of it.

use tonic::{Response, Status};

use crate::{
    client::{Failed, status_error, until_answered},
    error::{Error, Result},
    exit::Exit,
};

/// What to do after a call that may be repeated.
const SAY_IT_AGAIN: &str = "say it again when the head is back: nothing is done twice";

/// Runs `call` until it is answered: again while the head is away. Only for changes that may be repeated.
pub async fn patiently<T, F>(call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<Response<T>, Status>>,
{
    let answer = until_answered(call).await;
    answer.map_err(|failed| told(&failed, SAY_IT_AGAIN))
}

/// The answer to a change that is not repeated by itself, since it would be done twice; `look` says how
/// a person sees whether it was done.
pub async fn once<T>(
    call: impl Future<Output = std::result::Result<Response<T>, Status>>,
    look: &str,
) -> Result<T> {
    let answer = call.await.map(Response::into_inner);
    answer.map_err(|status| told(&Failed::of_one(status), look))
}

fn told(failed: &Failed, next: &str) -> Error {
    let error = status_error(&failed.status);
    if !failed.may_be_done {
        return error;
    }
    let message = "the head went away before it answered; it may have done it";
    Error::new(Exit::Unanswered, message)
        .because(error)
        .hint(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::again::Again;

    #[tokio::test]
    async fn a_change_that_may_be_done_is_not_told_as_one_that_was_not() {
        let cut = || Status::from_error(Box::new(std::io::Error::other("cut")));
        let call =
            async |status| once(async { Err::<Response<()>, _>(status) }, "`ctl tasks`").await;
        let error = call(cut()).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Unanswered);
        assert!(
            error
                .chain()
                .starts_with("the head went away before it answered")
        );
        assert_eq!(
            error.next_step(Again::default()).as_deref(),
            Some("`ctl tasks`")
        );
        let error = call(Status::not_found("no such task")).await.unwrap_err();
        assert_eq!(error.exit(), Exit::NotFound);
    }
}
