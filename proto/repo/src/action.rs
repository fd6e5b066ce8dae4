//! What the reflog of a branch says of a write of ours: that it is one, and for which cluster. The name of a
//! branch says only a task's number, which every cluster gives out.

/// How it begins.
const ACTION: &str = "orchestra: ";
const LEFT: &str = "as the task left it";
const OF: &str = ", of cluster ";
/// Longest name of a cluster that is written.
const CLUSTER_BYTES_MAX: usize = 64;

/// The message of a write for this cluster; none where nobody could say which one it is.
pub(crate) fn message(cluster: Option<&str>) -> String {
    match cluster.filter(|name| is_plain(name)) {
        Some(cluster) => format!("{ACTION}{LEFT}{OF}{cluster}"),
        None => format!("{ACTION}{LEFT}"),
    }
}

/// Whether a message is ours, and the cluster that it names; an earlier version named none.
pub(crate) fn read(message: &str) -> Option<Option<String>> {
    let rest = message.strip_prefix(ACTION)?;
    let cluster = rest
        .strip_prefix(LEFT)
        .and_then(|rest| rest.strip_prefix(OF));
    Some(cluster.filter(|name| is_plain(name)).map(str::to_owned))
}

fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !name.is_empty() && name.len() <= CLUSTER_BYTES_MAX && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_comes_back_and_only_a_plain_name_is_written() {
        assert_eq!(read(&message(Some("a-1"))), Some(Some("a-1".to_owned())));
        assert_eq!(read(&message(None)), Some(None));
        for odd in ["", "a b", "a\nb", &"a".repeat(65)] {
            assert_eq!(read(&message(Some(odd))), Some(None), "{odd:?}");
        }
        assert_eq!(read("orchestra: something else"), Some(None));
        assert_eq!(read("commit: mine, of cluster a-1"), None);
        assert_eq!(read("orchestral: x"), None);
    }
}
