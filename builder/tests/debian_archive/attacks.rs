//! What a hostile or broken mirror may try, and what a broken line does.

use std::time::Duration;

use builder::inputs::debian::index::InvalidIndex;
use builder::inputs::debian::release::ReleaseError;
use builder::inputs::debian::solve::SolveError;
use builder::inputs::debian::{ExpirationEnforcement, unpack};
use builder::inputs::fetch::{FetchError, Fetching, Source, UrlFile, fetch_all, fetch_url};
use builder::lock::{DebianLock, LockError, LockRequest, PackageLock, lock_packages};
use builder::progress::Progress;
use contract::Digest;

use super::fixture::{Archive, DAY, INRELEASE, Server, cache, keyring, sign, signing_key};

const KMOD: &str = "debian/pool/main/k/kmod/kmod_34.2-2_amd64.deb";

/// A running archive and a folder for a cache.
struct Scene {
    archive: Archive,
    server: Server,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new(archive: Archive) -> Self {
        let server = Server::start(&archive).await;
        Self { archive, server, folder: tempfile::tempdir().unwrap() }
    }

    fn request(&self, packages: &[&str]) -> LockRequest {
        self.archive.request(self.folder.path(), packages)
    }

    async fn lock_with(&self, request: &LockRequest) -> Result<DebianLock, LockError> {
        let cache = cache(self.folder.path());
        lock_packages(request, &self.server.mirrors(), &cache, &Progress::hidden()).await
    }

    async fn lock(&self) -> Result<DebianLock, LockError> {
        self.lock_with(&self.request(&["kmod"])).await
    }

    async fn fetch(&self, packages: &[PackageLock]) -> Result<(), FetchError> {
        self.fetch_from(packages, &Source::Mirrors(self.server.mirrors())).await
    }

    async fn fetch_from(
        &self,
        packages: &[PackageLock],
        source: &Source,
    ) -> Result<(), FetchError> {
        let (cache, progress) = (cache(self.folder.path()), Progress::hidden());
        let fetching = Fetching { source, jobs: 2, cache: &cache, progress: &progress };
        fetch_all(packages, &fetching).await.map(|_| ())
    }

    fn is_cached(&self, package: &PackageLock) -> bool {
        cache(self.folder.path()).blob(&package.sha256).exists()
    }

    fn kmod_requests(&self) -> Vec<String> {
        let requests = self.server.requests();
        requests.into_iter().filter(|request| request.starts_with(KMOD)).collect()
    }
}

/// Publishes what `change` makes of a good archive, and gives the error of locking from it.
async fn refusal(change: impl FnOnce(&mut Archive)) -> ReleaseError {
    let mut archive = Archive::new();
    change(&mut archive);
    match Scene::new(archive).await.lock().await {
        Err(LockError::Release(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_signed_archive_is_locked_with_its_closure_and_signer() {
    let scene = Scene::new(Archive::new()).await;
    let lock = scene.lock().await.unwrap();
    let names: Vec<&str> = lock.package.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["kmod", "libkmod2"]);
    assert_eq!(lock.requested, ["kmod"]);
    assert_eq!(lock.index[0].date, "Sat, 21 Nov 2026 09:15:44 UTC");
    assert_eq!(lock.index[0].signed_by, [scene.archive.key.fingerprint().to_hex()]);
}

#[tokio::test]
async fn a_changed_release_file_is_refused() {
    let error = refusal(|archive| {
        let text = String::from_utf8(archive.files[INRELEASE].clone()).unwrap();
        let text = text.replacen("Origin: Fixture", "Origin: Fixturf", 1);
        archive.files.insert(INRELEASE.into(), text.into_bytes());
    })
    .await;
    assert!(matches!(error, ReleaseError::BadSignature { .. }), "{error}");
}

#[tokio::test]
async fn text_around_the_signed_part_is_not_believed() {
    let mut archive = Archive::new();
    let signed = String::from_utf8(archive.files[INRELEASE].clone()).unwrap();
    let forged = archive.release.replace("Sat, 21 Nov", "Sun, 22 Nov");
    archive.files.insert(INRELEASE.into(), format!("{forged}\n{signed}").into_bytes());
    match Scene::new(archive).await.lock().await {
        Ok(lock) => assert_eq!(lock.index[0].date, "Sat, 21 Nov 2026 09:15:44 UTC"),
        Err(error) => assert!(matches!(error, LockError::Release(_)), "{error}"),
    }
}

#[tokio::test]
async fn an_unsigned_release_file_is_refused() {
    let error = refusal(|archive| {
        archive.files.insert(INRELEASE.into(), archive.release.clone().into_bytes());
    })
    .await;
    assert!(matches!(error, ReleaseError::Unsigned { .. }), "{error}");
}

#[tokio::test]
async fn an_unknown_signer_is_refused() {
    let error = refusal(|archive| {
        let foreign = sign(&signing_key(1000), &archive.release, DAY);
        archive.files.insert(INRELEASE.into(), foreign);
    })
    .await;
    assert!(matches!(error, ReleaseError::UnknownSigner { .. }), "{error}");
    assert!(error.to_string().contains("debian-archive-keyring"), "{error}");
}

#[tokio::test]
async fn an_expired_key_is_refused() {
    // Valid for 50 of its 100 days; it signs again today, past its end.
    let error = refusal(|archive| {
        archive.key = signing_key(50);
        let signed = sign(&archive.key, &archive.release, DAY * 60);
        archive.files.insert(INRELEASE.into(), signed);
    })
    .await;
    assert!(matches!(error, ReleaseError::UnknownSigner { .. }), "{error}");
}

#[tokio::test]
async fn an_expired_index_is_refused_unless_it_is_allowed() {
    let scene = Scene::new(Archive::new()).await;
    let mut request = scene.request(&["kmod"]);
    request.now += DAY * 5;
    let error = scene.lock_with(&request).await.unwrap_err();
    assert!(matches!(error, LockError::Release(ReleaseError::Expired { .. })), "{error}");
    assert!(error.to_string().contains("--allow-expired-index"), "{error}");
    request.expiration = ExpirationEnforcement::Ignore;
    scene.lock_with(&request).await.unwrap();
}

#[tokio::test]
async fn another_suite_s_signed_index_is_refused() {
    let error = refusal(|archive| {
        archive.publish(archive.release.replace("Codename: trixie", "Codename: bookworm"));
    })
    .await;
    assert!(matches!(error, ReleaseError::OtherSuite { .. }), "{error}");
}

#[tokio::test]
async fn a_keyring_without_keys_is_named() {
    let scene = Scene::new(Archive::new()).await;
    let request = scene.request(&["kmod"]);
    for bytes in [&b""[..], b"no keyring", &keyring(&scene.archive.key)[..20]] {
        std::fs::write(&request.keyring, bytes).unwrap();
        let error = scene.lock_with(&request).await.unwrap_err();
        assert!(matches!(error, LockError::Release(ReleaseError::Keyring { .. })), "{error}");
    }
}

#[tokio::test]
async fn a_changed_package_index_is_refused() {
    let mut archive = Archive::new();
    let path = "debian/dists/trixie/main/binary-amd64/Packages.xz";
    archive.files.get_mut(path).unwrap()[40] ^= 1;
    let error = Scene::new(archive).await.lock().await.unwrap_err();
    assert!(matches!(error, LockError::Fetch(FetchError::WrongDigest { .. })), "{error}");
}

#[tokio::test]
async fn a_damaged_but_signed_package_index_is_refused() {
    let mut archive = Archive::new();
    let garbage = b"not xz".to_vec();
    let (head, _) = archive.release.split_once("SHA256:\n").unwrap();
    let release = format!(
        "{head}SHA256:\n {} {} main/binary-amd64/Packages.xz\n",
        Digest::of(&garbage),
        garbage.len()
    );
    archive.publish(release);
    archive.files.insert("debian/dists/trixie/main/binary-amd64/Packages.xz".into(), garbage);
    let error = Scene::new(archive).await.lock().await.unwrap_err();
    assert!(matches!(error, LockError::Index(InvalidIndex { .. })), "{error}");
}

#[tokio::test]
async fn unresolvable_requests_name_the_package_and_the_reason() {
    let scene = Scene::new(Archive::new()).await;
    let solve = async |packages: &[&str]| match scene.lock_with(&scene.request(packages)).await {
        Err(LockError::Solve(error)) => error,
        other => panic!("{other:?}"),
    };
    let error = solve(&["kmodd"]).await;
    assert!(error.to_string().contains("did you mean `kmod`?"), "{error}");
    let error = solve(&["libkmod"]).await;
    assert!(matches!(&error, SolveError::Virtual { providers, .. } if providers == &["libkmod2"]));
    let error = solve(&["broken"]).await.to_string();
    assert!(error.contains("broken") && error.contains("missing-library (>= 3)"), "{error}");
    let error = solve(&["kmod", "rival"]).await.to_string();
    assert!(error.contains("rival") && error.contains("libkmod2"), "{error}");
}

#[tokio::test]
async fn a_package_that_differs_from_its_digest_is_refused() {
    let mut archive = Archive::new();
    let middle = archive.files[KMOD].len() / 2;
    archive.files.get_mut(KMOD).unwrap()[middle] ^= 1;
    let scene = Scene::new(archive).await;
    let packages = scene.lock().await.unwrap().package;
    let error = scene.fetch(&packages).await.unwrap_err();
    assert!(matches!(error, FetchError::WrongDigest { .. }), "{error}");
    assert!(!scene.is_cached(&packages[0]));
}

#[tokio::test]
async fn a_longer_package_is_given_up() {
    let mut archive = Archive::new();
    archive.files.get_mut(KMOD).unwrap().extend(vec![0; 1 << 20]);
    let scene = Scene::new(archive).await;
    let packages = scene.lock().await.unwrap().package;
    let error = scene.fetch(&packages).await.unwrap_err();
    assert!(matches!(error, FetchError::WrongSize { .. }), "{error}");
    assert!(!scene.is_cached(&packages[0]));
}

#[tokio::test]
async fn superseded_packages_are_named_with_both_ways_on() {
    let mut archive = Archive::new();
    archive.files.remove(KMOD);
    archive.files.remove("debian/pool/main/k/kmod/libkmod2_34.2-2_amd64.deb");
    let scene = Scene::new(archive).await;
    let packages = scene.lock().await.unwrap().package;
    let error = scene.fetch(&packages).await.unwrap_err();
    assert!(matches!(error, FetchError::Superseded { .. }), "{error}");
    let text = error.to_string();
    for part in ["kmod 34.2-2, libkmod2 34.2-2", "slipway lock", "--mirror", "fetch --store"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_ended() {
    let scene = Scene::new(Archive::new()).await;
    let packages = scene.lock().await.unwrap().package;
    scene.server.cut(KMOD, 1000);
    scene.fetch(&packages).await.unwrap();
    assert_eq!(
        scene.kmod_requests(),
        [KMOD.to_owned(), format!("{KMOD} bytes=1000- \"one\"")],
        "{:?}",
        scene.server.requests()
    );
    assert!(packages.iter().all(|package| scene.is_cached(package)));
    unpack(&packages[0], &cache(scene.folder.path())).unwrap();
}

#[tokio::test]
async fn a_file_that_changed_at_its_source_is_begun_anew() {
    let scene = Scene::new(Archive::new()).await;
    let packages = scene.lock().await.unwrap().package;
    let partial = cache(scene.folder.path()).folder("partial").unwrap();
    let name = partial.join(packages[0].sha256.to_string());
    std::fs::write(&name, b"the beginning of another file").unwrap();
    std::fs::write(name.with_extension("validator"), "\"zero\"").unwrap();
    scene.fetch(&packages).await.unwrap();
    assert_eq!(scene.kmod_requests(), [format!("{KMOD} bytes=29- \"zero\"")]);
    assert!(scene.is_cached(&packages[0]));
}

#[tokio::test]
async fn a_wrong_beginning_under_the_right_mark_is_fetched_again() {
    let scene = Scene::new(Archive::new()).await;
    let packages = scene.lock().await.unwrap().package;
    let partial = cache(scene.folder.path()).folder("partial").unwrap();
    let name = partial.join(packages[0].sha256.to_string());
    std::fs::write(&name, b"damaged beginning").unwrap();
    std::fs::write(name.with_extension("validator"), "\"one\"").unwrap();
    scene.fetch(&packages).await.unwrap();
    assert_eq!(scene.kmod_requests().len(), 2);
    assert!(scene.is_cached(&packages[0]));
    let left = std::fs::read_dir(partial).unwrap().count();
    assert_eq!(left, 0, "nothing partial is left behind");
}

#[tokio::test]
async fn offline_names_everything_that_is_missing() {
    let scene = Scene::new(Archive::new()).await;
    let packages = scene.lock().await.unwrap().package;
    let asked = scene.server.requests().len();
    let error = scene.fetch_from(&packages, &Source::Offline).await.unwrap_err();
    assert!(error.to_string().contains("kmod 34.2-2, libkmod2 34.2-2"), "{error}");
    assert_eq!(scene.server.requests().len(), asked, "no request is made");
    scene.fetch(&packages).await.unwrap();
    scene.fetch_from(&packages, &Source::Offline).await.unwrap();
}

#[tokio::test]
async fn a_mirror_that_is_down_is_said_after_bounded_tries() {
    let scene = Scene::new(Archive::new()).await;
    let packages = scene.lock().await.unwrap().package;
    // A port of the loopback that nothing listens on.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mirrors = builder::inputs::fetch::Mirrors::parse(&format!("http://{gone}")).unwrap();
    let source = Source::Mirrors(mirrors);
    let fetching = scene.fetch_from(&packages, &source);
    let result = tokio::time::timeout(Duration::from_secs(30), fetching).await.unwrap();
    assert!(matches!(result, Err(FetchError::Network { .. })), "{result:?}");
}

#[tokio::test]
async fn any_other_file_is_pinned_and_bounded() {
    let scene = Scene::new(Archive::new()).await;
    let url: url::Url = format!("{}/{KMOD}", scene.server.base).parse().unwrap();
    let bytes = &scene.archive.files[KMOD];
    let (cache, progress) = (cache(scene.folder.path()), Progress::hidden());
    let source = Source::Mirrors(scene.server.mirrors());
    let fetching = Fetching { source: &source, jobs: 1, cache: &cache, progress: &progress };
    let file = UrlFile { url, sha256: Digest::of(bytes), limit: 1 << 20 };
    let small = UrlFile { limit: 100, ..file.clone() };
    let error = fetch_url(&small, &fetching).await.unwrap_err();
    assert!(matches!(error, FetchError::WrongSize { .. }), "{error}");
    let offline = Fetching { source: &Source::Offline, ..fetching };
    let error = fetch_url(&file, &offline).await.unwrap_err();
    assert!(matches!(error, FetchError::Missing { .. }), "{error}");
    let path = fetch_url(&file, &fetching).await.unwrap();
    assert_eq!(&std::fs::read(path).unwrap(), bytes);
    fetch_url(&file, &offline).await.unwrap();
}
