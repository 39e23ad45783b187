//! Kubernetes' version skew policy: <https://kubernetes.io/releases/version-skew-policy/>.

use semver::Version;

/// How many minor versions a kubelet may be behind its API server.
const MAX_MINORS_BEHIND: u64 = 3;

/// A kubelet is never newer than the API server, and at most three minor versions older.
pub(super) fn is_supported(kubelet: &Version, server: &Version) -> bool {
    let behind = server.minor.checked_sub(kubelet.minor);
    kubelet.major == server.major && behind.is_some_and(|behind| behind <= MAX_MINORS_BEHIND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_is_at_most_three_minors_behind_and_never_ahead() {
        let supported = |kubelet: &str, server: &str| {
            is_supported(&kubelet.parse().unwrap(), &server.parse().unwrap())
        };
        for kubelet in ["1.37.2", "1.37.9", "1.36.0", "1.34.1"] {
            assert!(supported(kubelet, "1.37.2"), "{kubelet}");
        }
        for kubelet in ["1.38.0", "1.33.9", "2.37.2", "0.37.2"] {
            assert!(!supported(kubelet, "1.37.2"), "{kubelet}");
        }
    }
}
