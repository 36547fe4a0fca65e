use std::io::{Seek as _, Write as _};
use std::sync::{Mutex, mpsc};

use tokio::time::Instant;

use super::*;

/// Reads on another thread, so that a blocked read fails the test and does not hang it.
fn read(path: impl Into<PathBuf>) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let (path, (send, receive)) = (path.into(), mpsc::channel());
    std::thread::spawn(move || send.send(read_regular(&path, 100)));
    receive.recv_timeout(Duration::from_secs(20)).expect("the read blocks")
}

#[test]
fn reads_only_regular_files_of_bounded_size() {
    let directory = tempfile::tempdir().unwrap();
    let (file, fifo) = (directory.path().join("file"), directory.path().join("fifo"));
    let fifo_made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(fifo_made.success());
    let socket = directory.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, kind) in [
        (directory.path().to_owned(), FileKind::Directory),
        (fifo, FileKind::Fifo),
        (socket, FileKind::Socket),
        ("/dev/zero".into(), FileKind::Device),
        ("/dev/tty".into(), FileKind::Device),
    ] {
        let error = read(&path).unwrap_err();
        assert!(matches!(error, ReadError::NotRegular(found) if found == kind), "{path:?}: {error}");
    }
    for (length, taken) in [(0, true), (100, true), (101, false)] {
        std::fs::write(&file, "x".repeat(length)).unwrap();
        assert_eq!(read(&file).is_ok(), taken, "{length} bytes");
    }
    File::options().write(true).open(&file).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(read(&file), Err(ReadError::TooLarge(100))), "a sparse file of a terabyte");
    // The kernel reports size 0.
    assert!(matches!(read("/proc/self/maps"), Err(ReadError::TooLarge(100))));
    assert!(matches!(read(directory.path().join("none")), Err(ReadError::Io(_))));
    std::os::unix::fs::symlink("file", directory.path().join("link")).unwrap();
    std::fs::write(&file, "content").unwrap();
    assert_eq!(**read(directory.path().join("link")).unwrap(), *b"content");
}

#[test]
fn rejects_pipe_that_replaced_the_file_after_the_check() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    assert!(matches!(read_opened(file, 100), Err(ReadError::NotRegular(FileKind::Fifo))));
}

#[test]
fn rejects_file_that_changes_during_the_reading() {
    // A FIFO cannot test this, because the write must happen during the reading. So a thread writes all the time.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let content = vec![b'x'; 4 << 20];
    file.write_all(&content).unwrap();
    let path = file.path().to_owned();
    let (stop, stopped) = mpsc::channel::<()>();
    let writing = std::thread::spawn(move || {
        while let Err(mpsc::TryRecvError::Empty) = stopped.try_recv() {
            file.rewind().unwrap();
            file.write_all(&content).unwrap();
        }
    });
    let refused = (0..1000).any(|_| matches!(read_regular(&path, 8 << 20), Err(ReadError::Changed)));
    drop(stop);
    writing.join().unwrap();
    assert!(refused);
    assert!(read_regular(&path, 8 << 20).is_err(), "the file still exists");
}

#[test]
fn file_is_young_for_a_while_after_its_change() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (seen, metadata) = (Fingerprint::of(file.path()), file.path().metadata().unwrap());
    let seconds = Duration::from_secs(metadata.ctime().unsigned_abs());
    let nanoseconds = Duration::from_nanos(metadata.ctime_nsec().unsigned_abs());
    let changed = SystemTime::UNIX_EPOCH + seconds + nanoseconds;
    let age = Duration::from_millis(100);
    for (later, young) in [(0, true), (99, true), (100, false), (10_000, false)] {
        assert_eq!(seen.is_younger_than(age, changed + Duration::from_millis(later)), young, "{later} ms");
    }
    assert!(!seen.is_younger_than(age, changed - Duration::from_millis(1)), "with a clock that is behind");
    let nothing = Fingerprint::of(&file.path().join("none"));
    assert!(!nothing.is_younger_than(age, changed));
}

#[tokio::test(start_paused = true)]
async fn repeats_failed_reading_without_a_change_and_no_successful_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "old").unwrap();
    let watched = Watched::look(vec![file.clone()]);
    std::fs::write(&file, "newer").unwrap();
    let (start, readings) = (Instant::now(), Mutex::new(Vec::new()));
    let read = || async {
        let mut readings = readings.lock().unwrap();
        readings.push(start.elapsed().as_secs());
        // The third succeeds. The fourth, after another change, fails.
        [3, 5].contains(&readings.len())
    };
    let following = watched.follow(Shutdown::never(), read);
    let changing = async {
        tokio::time::sleep_until(start + Duration::from_millis(200_500)).await;
        assert_eq!(*readings.lock().unwrap(), [0, 30, 60]);
        std::fs::write(&file, "newest").unwrap();
        tokio::time::sleep_until(start + Duration::from_millis(400_500)).await;
    };
    tokio::select! {
        () = following => unreachable!("there was no shutdown"),
        () = changing => {}
    }
    assert_eq!(*readings.lock().unwrap(), [0, 30, 60, 201, 231]);
}

#[tokio::test(start_paused = true)]
async fn change_is_read_at_once_after_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let watched = Watched::look(vec![file.clone()]);
    std::fs::write(&file, "broken").unwrap();
    let (start, readings) = (Instant::now(), Mutex::new(Vec::new()));
    let read = || async {
        let text = std::fs::read_to_string(&file).unwrap();
        readings.lock().unwrap().push((start.elapsed().as_secs(), text.clone()));
        text == "good"
    };
    let following = watched.follow(Shutdown::never(), read);
    let mending = async {
        tokio::time::sleep_until(start + Duration::from_millis(4_500)).await;
        std::fs::write(&file, "good").unwrap();
        tokio::time::sleep_until(start + Duration::from_millis(100_500)).await;
    };
    tokio::select! {
        () = following => unreachable!("there was no shutdown"),
        () = mending => {}
    }
    let expected = [(0, "broken".to_owned()), (5, "good".to_owned())];
    assert_eq!(*readings.lock().unwrap(), expected);
}
