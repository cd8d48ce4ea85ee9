use tempfile::TempDir;

use super::*;

fn owner() -> Owner {
    Owner::of_this_process("run", "http://g", "http://b", 1)
}

#[test]
fn a_spool_has_one_owner_at_a_time() {
    let root = TempDir::new().unwrap();
    let directory = SpoolDirectory::create(root.path(), &owner()).unwrap();
    let path = directory.path().to_owned();
    assert!(SpoolDirectory::claim(&path).unwrap().is_none(), "it is locked");
    drop(directory);
    let (_claimed, found) = SpoolDirectory::claim(&path).unwrap().unwrap();
    assert_eq!(found, owner());
}

#[test]
fn containers_are_on_this_machine_and_other_kernels_are_not() {
    let mut container = owner();
    container.process.host = "3f2a".to_owned();
    assert_eq!(container.is_elsewhere(), process::boot_id().is_empty());
    let mut restarted = owner();
    restarted.process.boot_id = "another".to_owned();
    assert!(!restarted.is_elsewhere());
    let mut other = restarted;
    other.process.host = "3f2a".to_owned();
    assert!(other.is_elsewhere());
}

#[test]
fn a_spool_is_locked_while_its_owner_has_it() {
    let root = TempDir::new().unwrap();
    let directory = SpoolDirectory::create(root.path(), &owner()).unwrap();
    let path = directory.path().to_owned();
    assert!(is_locked(&path));
    drop(directory);
    assert!(!is_locked(&path));
}

#[test]
fn a_spool_without_owner_or_with_another_format_is_left_alone() {
    let root = TempDir::new().unwrap();
    let path = SpoolDirectory::create(root.path(), &Owner { format: 2, ..owner() }).unwrap().path;
    assert!(SpoolDirectory::claim(&path).unwrap().is_none());
    fs::remove_file(path.join(OWNER)).unwrap();
    assert!(SpoolDirectory::claim(&path).unwrap().is_none());
    assert_eq!(list(root.path()), [path]);
}

#[cfg(unix)]
#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let shared = TempDir::new().unwrap();
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(shared.path(), 0o1777);
    let root = shared.path().join("spool");
    drop(SpoolDirectory::create(&root, &owner()).unwrap());
    set_mode(&root, 0o777);
    assert!(SpoolDirectory::create(&root, &owner()).is_err());
}

#[cfg(unix)]
#[test]
fn a_spool_that_others_could_have_written_is_left_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = TempDir::new().unwrap();
    let root = parent.path().join("spools");
    let path = SpoolDirectory::create(&root, &owner()).unwrap().path;
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(&path, 0o770);
    assert!(SpoolDirectory::claim(&path).unwrap().is_none());
    assert!(list(&root).is_empty());
    set_mode(&path, 0o700);
    assert_eq!(list(&root), std::slice::from_ref(&path));

    let link = root.join(ProducerId::new([7; 16]).name());
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(SpoolDirectory::claim(&link).unwrap().is_none());
    assert_eq!(list(&root), std::slice::from_ref(&path));
    // Without the sticky bit, others could replace it at any time.
    set_mode(&root, 0o777);
    assert!(list(&root).is_empty());
    set_mode(&root, 0o1777);
    assert_eq!(list(&root), [path]);
}

#[cfg(unix)]
#[test]
fn only_this_user_can_enter() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = TempDir::new().unwrap();
    let directory = SpoolDirectory::create(&root.path().join("a/b"), &owner()).unwrap();
    for path in [root.path().join("a/b"), directory.path().to_owned(), directory.uploads()] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn a_removed_spool_is_gone() {
    let root = TempDir::new().unwrap();
    let directory = SpoolDirectory::create(root.path(), &owner()).unwrap();
    directory.remove().unwrap();
    assert!(list(root.path()).is_empty());
}

#[test]
fn a_lost_description_of_the_owner_is_written_again() {
    let root = TempDir::new().unwrap();
    let owner = Owner::of_this_process("run", "http://h:1", "http://h:2", 1);
    let directory = SpoolDirectory::create(root.path(), &owner).unwrap();
    let file = directory.path().join(OWNER);
    fs::remove_file(&file).unwrap();
    renew(directory.path(), &owner).unwrap();
    assert_eq!(read_owner(directory.path()).unwrap(), Some(owner.clone()));
    let long_ago = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
    File::options().append(true).open(&file).unwrap().set_times(long_ago).unwrap();
    renew(directory.path(), &owner).unwrap();
    assert!(fs::metadata(&file).unwrap().modified().unwrap() > SystemTime::UNIX_EPOCH);
}
