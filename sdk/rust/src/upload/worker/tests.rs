use std::fs;

use tempfile::TempDir;

use super::*;
use crate::{
    notice::{Notice, Notices},
    spool::test_spool,
};

fn spool_in(root: &TempDir, notices: &Notices) -> Arc<Spool> {
    Arc::new(test_spool::spool_in(root, "http://127.0.0.1:1", notices))
}

fn write(spool: &Spool, number: u64, path: &str, parts: Vec<u64>) {
    fs::create_dir_all(spool.uploads()).unwrap();
    let kind = "text/plain".to_owned();
    let part = Announcement::Part;
    let mut manifest = Manifest::new(path.to_owned(), kind, Source::Data, Encoding::Identity, part, 1);
    manifest.parts = parts;
    manifest.write(&spool.uploads(), number).unwrap();
}

fn upload(spool: &Arc<Spool>, number: u64, path: &str) -> Upload {
    Upload {
        spool: spool.clone(),
        gateway: HttpClient::new(spool.owner().upload_url(), Timeouts::default()).unwrap(),
        number,
        path: path.to_owned(),
        attempts: Attempts::default(),
        announced: AnnouncedUploads::default(),
    }
}

#[tokio::test]
async fn an_upload_that_panics_is_reported_once_and_given_up_at_last() {
    let root = TempDir::new().unwrap();
    let notices = Notices::default();
    let spool = spool_in(&root, &notices);
    write(&spool, 7, "model", Vec::new());
    let mut upload = upload(&spool, 7, "model");
    for _ in 1..MOST_PANICS {
        assert!(!upload.note_panic("a defect"));
        assert!(spool.progress.delivery().error().is_some_and(|error| error.contains("a defect")));
    }
    let found = notices.take();
    let is_named = |notice: &&Notice| notice.message.contains("failed to upload model (a defect)");
    assert_eq!(found.iter().filter(is_named).count(), 1, "{found:?}");
    assert_eq!(spool.lost(), 0);
    assert!(upload.note_panic("a defect"));
    let found = notices.take();
    let is_lost = |notice: &Notice| notice.message.starts_with("model was not uploaded, and is lost: ");
    assert!(found.iter().any(is_lost), "{found:?}");
    assert_eq!((spool.lost(), spool.progress.delivery().error()), (1, None));
    assert!(spool.uploads().join("7.failed").exists(), "the manifest is set aside, so nothing is announced");
}

#[tokio::test]
async fn uploads_that_fail_come_after_others_but_keep_their_order_by_path() {
    let root = TempDir::new().unwrap();
    let spool = spool_in(&root, &Notices::default());
    for (number, path, parts) in [(1, "a", vec![]), (2, "a", vec![]), (3, "b", vec![1]), (4, "c", vec![])] {
        write(&spool, number, path, parts);
    }
    let mut worker = Worker::new(spool.clone(), AnnouncedUploads::default());
    let mut failed = upload(&spool, 1, "a");
    failed.attempts.put_off();
    worker.put_back(failed);
    worker.look();
    assert!(worker.has_untried());
    assert!(worker.start_next().is_some());
    assert_eq!(worker.started.keys().collect::<Vec<_>>(), [&4]);
    worker.put_off.get_mut(&1).unwrap().count_panic();
    worker.put_off.get_mut(&1).unwrap().put_off();
    assert!(worker.start_next().is_none());
    worker.put_off.get_mut(&1).unwrap().begin();
    assert!(worker.start_next().is_some());
    assert!(worker.started.contains_key(&1));
}

#[tokio::test]
async fn an_upload_is_announced_as_soon_as_its_event_is_appended() {
    let root = TempDir::new().unwrap();
    let spool = spool_in(&root, &Notices::default());
    let upload = upload(&spool, 7, "model");
    let artifact = Announcement::Artifact;
    let kind = "text/plain".to_owned();
    let manifest = Manifest::new("model".to_owned(), kind, Source::Data, Encoding::Identity, artifact, 1);
    let content = UploadedContent { size: 1, hash: [0; 32] };
    assert!(!upload.is_announced());
    upload.append(&manifest, content).await;
    assert!(upload.is_announced());
}
