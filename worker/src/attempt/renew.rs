//! What is kept of a project here may be damaged: by the disk, or by an agent of the same user. Then it is
//! fetched anew, and the attempt goes on.

use orchestra_repo::Cache;

use super::{
    prepare::Source,
    run::{Attempt, Error, chain},
};
use crate::blocking::blocking;

impl Attempt {
    /// Looks at the cache and the bundles that a workspace could not be made from, and has those fetched anew
    /// that are damaged, or that the cache seemed to have taken. Whether there are any, so that it is worth to try again.
    pub(super) async fn renew(&mut self, cache: Cache, source: &Source) -> Result<bool, Error> {
        let bundles = self.remove_damaged_bundles(source).await;
        let noted = cache.clone();
        let forgot = blocking(move || noted.forget_taken()).await;
        let forgot = forgot.unwrap_or_else(|error| {
            tracing::error!(
                error = chain(&error),
                "what a cache has taken cannot be forgotten"
            );
            false
        });
        let (dir, commit) = (cache.path().display().to_string(), source.commit.clone());
        let looked = blocking(move || cache.replace_if_damaged(&commit));
        let damage = match self.unless_stopped(looked).await? {
            Ok(Ok(damage)) => damage,
            Ok(Err(error)) => {
                let error = chain(&error);
                tracing::error!(cache = dir, error, "a damaged cache cannot be replaced");
                None
            }
            Err(_stopped) => return Ok(false),
        };
        if let Some(damage) = &damage {
            tracing::warn!(
                attempt = %self.id,
                cache = dir,
                damage,
                "the cache of a project is damaged; it is fetched anew"
            );
            let text = format!("`{dir}` is damaged ({damage}); the project is fetched anew");
            self.tell("cache_replaced", text)?;
        }
        Ok(damage.is_some() || bundles > 0 || forgot)
    }

    async fn remove_damaged_bundles(&self, source: &Source) -> usize {
        let before = self.order.predecessors.iter();
        let before = before.flat_map(|predecessor| &predecessor.bundles);
        let mut removed = 0;
        for digest in source.bundles.iter().chain(before) {
            match self.shared.blobs.remove_if_damaged(*digest).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::warn!(attempt = %self.id, %digest, "a bundle is damaged; it is fetched anew");
                    removed += 1;
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(%digest, error, "a damaged bundle cannot be removed");
                }
            }
        }
        removed
    }
}
