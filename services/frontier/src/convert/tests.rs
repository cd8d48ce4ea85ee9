use super::*;

fn check_run_id(run_id: &str, valid: bool) {
    assert_eq!(RunId::parse(run_id.to_owned()).is_ok(), valid, "{run_id:?}");
}

#[test]
fn run_ids() {
    check_run_id("0123456789abcdef0123456789abcdef", true);
    check_run_id("run 1", true);
    check_run_id(".projects-1", true);
    check_run_id("größe", true);
    check_run_id(&"x".repeat(256), true);
    check_run_id(&"x".repeat(257), false);
    check_run_id("", false);
    check_run_id("a/b", false);
    check_run_id("/", false);
    check_run_id("a\nb", false);
    check_run_id(".", false);
    check_run_id("..", false);
    check_run_id(".projects", false);
    check_run_id("progress", false);
    check_run_id("progress_0", false);
    check_run_id("progressive", false);
    check_run_id("Progress", true);
    check_run_id("my progress", true);
}

#[test]
fn reserved_run_ids_are_refused_by_every_request() {
    let run_id = || "progress_1".to_owned();
    let opened = OpenCommand::parse(pb::StreamOpen { run_id: run_id(), ..Default::default() }, || [7; 16]);
    let published =
        PublishCommand::parse(pb::PublishRequest { run_id: run_id(), ..Default::default() }, || [7; 16]);
    let presigned = presign("", "progress_1", "a.png");
    for refused in [opened.unwrap_err(), published.unwrap_err(), presigned.unwrap_err()] {
        assert_eq!(refused.to_string(), "`run_id` begins with `progress`, which is reserved: choose another");
    }
}

fn presign(project: &str, run_id: &str, path: &str) -> Result<UploadTarget> {
    let caller = Caller { project: project.into(), ..Caller::default() };
    let request =
        pb::PresignRequest { run_id: run_id.into(), artifact_path: path.into(), ..Default::default() };
    UploadTarget::parse(&caller, request)
}

fn check_path_refused(path: &str) {
    let error = presign("", "run", path).unwrap_err();
    assert!(matches!(error, Error::InvalidField { field: "artifact_path", .. }), "{path:?}: {error}");
}

#[test]
fn artifact_paths_stay_inside_the_run() {
    let presigned = presign("", "run", "a/b c.png").unwrap();
    assert_eq!((presigned.key.as_str(), presigned.reference.as_str()), ("run/a/b c.png", "run/a/b c.png"));
    assert_eq!(presigned.content_type, "application/octet-stream");
    for path in ["", "/a", "a/", "a//b", "..", "../x", "a/../../x", "a/./b", "a\0b", &"x".repeat(1_025)] {
        check_path_refused(path);
    }
    for path in [".matyan", ".matyan/x"] {
        check_path_refused(path);
    }
    assert!(presign("", "run", "a/.matyan").is_ok() && presign("", "run", ".matyan2/x").is_ok());
    // Short enough on its own, but not as part of a blob key.
    check_path_refused(&"x".repeat(1_022));
}

#[test]
fn other_projects_have_separate_folders() {
    let presigned = presign("team", "run", "a.png").unwrap();
    assert_eq!(presigned.key.as_str(), ".projects/team/run/a.png");
    assert_eq!(presigned.reference, "run/a.png");
}

fn caller(name: &'static str, value: &str) -> Result<Caller> {
    let mut metadata = MetadataMap::new();
    metadata.insert(name, value.parse().unwrap());
    Caller::parse(&metadata)
}

#[test]
fn metadata_identifies_the_caller() {
    assert_eq!(caller("x", "y").unwrap(), Caller::default());
    assert_eq!(caller("matyan-project", "team").unwrap().project, "team");
    assert_eq!(caller("matyan-caller", "ann").unwrap().identity, "ann");
    for project in ["a/b", "..", ".projects", &"x".repeat(257)] {
        assert!(caller("matyan-project", project).is_err(), "{project}");
    }
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(caller("traceparent", trace).unwrap().trace.unwrap(), trace);
    assert_eq!(caller("traceparent", "00-zz").unwrap().trace, None);
}

fn open(producer_id: &'static [u8], acknowledged: u64) -> Result<OpenCommand> {
    let open = pb::StreamOpen {
        run_id: "run".into(),
        producer_id: Bytes::from_static(producer_id),
        acknowledged,
        ..Default::default()
    };
    OpenCommand::parse(open, || [7; 16])
}

#[test]
fn producers() {
    assert_eq!(open(b"", 0).unwrap().producer, Producer { id: [7; 16], ephemeral: true });
    assert_eq!(open(&[1; 16], 5).unwrap().producer, Producer { id: [1; 16], ephemeral: false });
    assert!(open(&[1; 15], 0).is_err());
    assert!(open(b"", 1).is_err());
    let of_a_connection = pb::StreamOpen {
        run_id: "run".into(),
        producer_id: Bytes::from_static(&[1; 16]),
        ..Default::default()
    };
    let open = OpenCommand::parse(pb::StreamOpen { ephemeral: true, ..of_a_connection }, || [7; 16]).unwrap();
    assert_eq!(open.producer, Producer { id: [1; 16], ephemeral: true });
}

#[test]
fn a_dictionary_needs_a_batch_that_defined_it() {
    let open = |acknowledged| pb::StreamOpen {
        run_id: "run".into(),
        producer_id: Bytes::from_static(&[1; 16]),
        acknowledged,
        dictionary: Bytes::from_static(&[0x0a, 0x00]),
        ..Default::default()
    };
    assert!(OpenCommand::parse(open(0), || [7; 16]).is_err());
    assert_eq!(OpenCommand::parse(open(1), || [7; 16]).unwrap().series.len(), 1);
}

fn publish(producer_id: &'static [u8], sequence: u64) -> Result<PublishCommand> {
    let request = pb::PublishRequest {
        run_id: "run".into(),
        producer_id: Bytes::from_static(producer_id),
        sequence,
        ..Default::default()
    };
    PublishCommand::parse(request, || [7; 16])
}

#[test]
fn a_sequence_requires_a_producer() {
    assert_eq!(publish(b"", 0).unwrap().sequence, 1);
    assert_eq!(publish(&[1; 16], 3).unwrap().sequence, 3);
    assert!(publish(b"", 3).is_err());
    assert!(publish(&[1; 16], 0).is_err());
}
