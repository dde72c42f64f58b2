//! Client keys over a real file.

use std::path::PathBuf;
use std::sync::Arc;
use store::identity::{ClientKey, Identities, Identity, IdentityError, NewKey, shown};
use store::seal::KeyHasher;
use tempfile::TempDir;

const NOW: i64 = 1_795_214_605_123;

fn new(id: &str) -> NewKey {
    NewKey {
        id: id.to_owned(),
        organisation: "default".to_owned(),
        team: "red".to_owned(),
        consumer: "shop".to_owned(),
        expires_ms: None,
    }
}

fn hasher() -> KeyHasher {
    KeyHasher::new(&[3; 32])
}

fn hash(key: &str) -> [u8; 32] {
    hasher().hash(key.as_bytes())
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.sqlite");
    (folder, path)
}

#[test]
fn what_is_shown_of_a_key() {
    let check = |key: &str, expected: &str| assert_eq!(shown(key), expected);
    check(ClientKey::new(&[0xab; 32]).expose(), "sk-weir-abab…abab");
    check("sk-proj-0123456789abcdefghij", "sk-p…ghij");
    check("sk-test", "…");
    check("sk-weir-short", "sk-weir-…");
    check("", "…");
    check("ééééééééééééééééééééééééé", "éééé…éééé");
    assert_eq!(format!("{:?}", ClientKey::new(&[0xab; 32])), "ClientKey(***)");
}

#[tokio::test]
async fn a_key_is_found_by_its_hash_until_it_is_revoked_and_the_file_remembers() {
    let (_folder, path) = folder();
    let keys = Identities::open(&path).unwrap();
    let (key, made) = keys.create(new("k1"), &[1; 32], &hasher(), NOW).await.unwrap();
    let (other, _) = keys.create(new("k2"), &[2; 32], &hasher(), NOW).await.unwrap();
    assert_eq!(keys.lookup(&hash(key.expose())).unwrap(), made);
    assert_eq!((&*made.shown, &*made.consumer), ("sk-weir-0101…0101", "shop"));
    assert_eq!(keys.lookup(&hash("sk-weir-else")), None);
    assert!(keys.revoke("k1", NOW + 5).await.unwrap());
    assert!(!keys.revoke("k1", NOW + 6).await.unwrap());
    for keys in [&keys, &Identities::open(&path).unwrap()] {
        assert_eq!(keys.lookup(&hash(key.expose())), None);
        assert_eq!(&*keys.lookup(&hash(other.expose())).unwrap().id, "k2");
        assert_eq!(keys.len(), 1);
        let listed = keys.list(Some("shop".to_owned()), None, 10).await.unwrap();
        assert_eq!(
            listed.iter().map(|key| key.revoked_ms).collect::<Vec<_>>(),
            [Some(NOW + 5), None]
        );
    }
    // Neither an id nor a value is used twice, revoked or not.
    let again = keys.create(new("k1"), &[9; 32], &hasher(), NOW).await;
    assert!(matches!(again, Err(IdentityError::Exists { .. })), "{again:?}");
    let again = keys.create(new("k9"), &[1; 32], &hasher(), NOW).await;
    assert!(matches!(again, Err(IdentityError::Exists { .. })), "{again:?}");
    drop(keys);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(std::fs::read(path.with_extension("sqlite-wal")).unwrap_or_default());
    for key in [&key, &other] {
        let secret = key.expose().as_bytes();
        assert!(
            !bytes.windows(secret.len()).any(|part| part == secret),
            "the key itself is not in the file"
        );
    }
}

#[tokio::test]
async fn expiry_can_be_moved() {
    let (_folder, path) = folder();
    let keys = Identities::open(&path).unwrap();
    let soon = NewKey {
        expires_ms: Some(NOW + 10),
        ..new("k1")
    };
    let (key, made) = keys.create(soon, &[1; 32], &hasher(), NOW).await.unwrap();
    assert!(made.is_valid(NOW + 9) && !made.is_valid(NOW + 10));
    assert!(keys.set_expiry("k1", Some(NOW + 20)).await.unwrap());
    assert!(!keys.set_expiry("none", None).await.unwrap());
    for keys in [&keys, &Identities::open(&path).unwrap()] {
        assert!(keys.lookup(&hash(key.expose())).unwrap().is_valid(NOW + 19));
    }
}

#[tokio::test]
async fn keys_of_files_come_and_go_with_them() {
    let (_folder, path) = folder();
    let keys = Identities::open(&path).unwrap();
    let (made, identity) = keys.create(new("k1"), &[1; 32], &hasher(), NOW).await.unwrap();
    let of_file = |id: &str| Identity {
        id: id.into(),
        shown: "…".into(),
        ..(*identity).clone()
    };
    let refused = keys.set_from_files(vec![
        (of_file("f1"), hash("sk-test")),
        (of_file("f2"), hash("sk-other")),
        (of_file("f3"), hash(made.expose())),
        (of_file("k1"), hash("sk-third")),
    ]);
    assert_eq!(refused, [Arc::from("f3"), Arc::from("k1")]);
    assert_eq!(&*keys.lookup(&hash(made.expose())).unwrap().id, "k1");
    assert!(keys.lookup(&hash("sk-test")).unwrap().is_from_file);
    assert!(
        !keys.revoke("f1", NOW).await.unwrap(),
        "the file says it is in force"
    );
    assert!(keys.lookup(&hash("sk-test")).is_some());
    assert_eq!(
        keys.set_from_files(vec![(of_file("renamed"), hash("sk-other"))]),
        []
    );
    assert_eq!(keys.lookup(&hash("sk-test")), None);
    assert_eq!(&*keys.lookup(&hash("sk-other")).unwrap().id, "renamed");
    assert_eq!((keys.find("f2"), keys.len()), (None, 2));
}

#[tokio::test]
async fn changes_of_another_process_are_read() {
    let (_folder, path) = folder();
    let [one, two] = [(), ()].map(|()| Identities::open(&path).unwrap());
    assert!(!two.reload().await.unwrap());
    let (key, _) = one.create(new("k1"), &[1; 32], &hasher(), NOW).await.unwrap();
    assert!(two.reload().await.unwrap());
    assert!(two.lookup(&hash(key.expose())).is_some());
    assert!(!two.reload().await.unwrap());
    assert!(two.revoke("k1", NOW).await.unwrap());
    assert!(one.reload().await.unwrap());
    assert_eq!(one.lookup(&hash(key.expose())), None);
}

#[tokio::test]
async fn a_key_stays_revoked_although_the_file_could_not_be_written() {
    let (_folder, path) = folder();
    let [keys, other] = [(), ()].map(|()| Identities::open(&path).unwrap());
    let (key, _) = keys.create(new("k1"), &[1; 32], &hasher(), NOW).await.unwrap();
    let locker = rusqlite::Connection::open(&path).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let failed = keys.revoke("k1", NOW).await;
    assert!(matches!(failed, Err(IdentityError::Store(_))), "{failed:?}");
    assert_eq!(keys.lookup(&hash(key.expose())), None);
    locker.execute_batch("ROLLBACK").unwrap();
    other.create(new("k2"), &[2; 32], &hasher(), NOW).await.unwrap();
    assert!(keys.reload().await.unwrap());
    assert_eq!((keys.lookup(&hash(key.expose())), keys.len()), (None, 1));
    assert!(keys.revoke("k1", NOW).await.unwrap());
    assert_eq!(Identities::open(&path).unwrap().lookup(&hash(key.expose())), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn look_ups_go_on_while_keys_change() {
    let (_folder, path) = folder();
    let keys = Arc::new(Identities::open(&path).unwrap());
    let (stays, _) = keys
        .create(new("stays"), &[255; 32], &hasher(), NOW)
        .await
        .unwrap();
    let is_done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = {
        let (keys, hash, is_done) = (keys.clone(), hash(stays.expose()), is_done.clone());
        std::thread::spawn(move || {
            let mut seen = 0_u64;
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(keys.lookup(&hash).is_some());
                seen += 1;
            }
            seen
        })
    };
    for n in 0..100_u8 {
        let id = format!("k{n}");
        let (key, _) = keys.create(new(&id), &[n; 32], &hasher(), NOW).await.unwrap();
        assert!(keys.lookup(&hash(key.expose())).is_some());
        keys.revoke(&id, NOW).await.unwrap();
        assert!(keys.lookup(&hash(key.expose())).is_none());
        keys.reload().await.unwrap();
    }
    is_done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reader.join().unwrap() > 100);
}

#[test]
fn a_damaged_file_is_set_aside() {
    let (_folder, path) = folder();
    std::fs::write(&path, [b'x'; 5_000]).unwrap();
    let keys = Identities::open(&path).unwrap();
    assert!(keys.is_empty());
    assert_eq!(
        std::fs::read(&keys.set_aside().unwrap().kept_as).unwrap(),
        [b'x'; 5_000]
    );
}
