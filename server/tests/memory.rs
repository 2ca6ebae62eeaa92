//! What can be read of a running server's memory: not the root key, nothing that it could be computed
//! from, and no share. Needs root, to read another process's memory.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aho_corasick::AhoCorasick;
use sealwire_engine::custody::CeremonyKind;
use support::recover;
use support::{App, Server};

/// Scans of each kind of memory; `scripts/memory-scan` does 200.
fn scans() -> usize {
    std::env::var("SEALWIRE_TEST_SCANS").map_or(20, |text| text.parse().expect("a number"))
}

/// What must not be found, and what must.
struct Needles {
    names: Vec<String>,
    search: AhoCorasick,
}

impl Needles {
    /// Both halves of everything that the root key could be had from, and a marker.
    fn of(server: &Server, marker: &str) -> Self {
        let cards: Vec<(Vec<u8>, String)> = server
            .cards
            .iter()
            .map(|card| (card.bytes().expect("a card"), card.passphrase.to_string()))
            .collect();
        let root = recover::recover(&cards).expect("the cards give the root key");
        let id: [u8; 16] = recover::derive(&root, &[b"sealwire root key id v1"]);
        // RFC 5869, section 2.2: the extract is HMAC(no salt, root key); RFC 2104: a key is padded to a
        // block of 64 bytes, and mixed with 0x36 and 0x5c.
        let extract = recover::extract(&root);
        let pad = |key: &[u8; 32], mix: u8| key.map(|byte| byte ^ mix);
        let mut secrets = vec![
            ("root key".to_owned(), root),
            ("root key as inner pad".into(), pad(&root, 0x36)),
            ("root key as outer pad".into(), pad(&root, 0x5c)),
            ("HKDF extract".into(), extract),
            ("extract as inner pad".into(), pad(&extract, 0x36)),
            ("extract as outer pad".into(), pad(&extract, 0x5c)),
            ("wrap KEK".into(), recover::derive(&root, &[b"sealwire wrap kek v1", &id])),
        ];
        for (card, passphrase) in &cards {
            let (number, share) = recover::open_card(card, passphrase).expect("opens");
            secrets.push((format!("share {number}"), share));
        }
        let mut names = vec!["marker".to_owned()];
        let mut patterns = vec![marker.as_bytes().to_vec()];
        for (number, (_, passphrase)) in cards.iter().enumerate() {
            for form in [passphrase.clone(), passphrase.replace('-', "")] {
                names.push(format!("passphrase {}", number + 1));
                patterns.push(form.into_bytes());
            }
        }
        for (name, secret) in secrets {
            for (half, bytes) in [("first", &secret[..16]), ("second", &secret[16..])] {
                names.push(format!("{name}, {half} half"));
                patterns.push(bytes.to_vec());
            }
        }
        let search = AhoCorasick::new(patterns).expect("a search");
        Self { names, search }
    }

    fn find(&self, haystack: &[u8], found: &mut BTreeMap<String, usize>) {
        for hit in self.search.find_iter(haystack) {
            *found.entry(self.names[hit.pattern().as_usize()].clone()).or_default() += 1;
        }
    }
}

/// What a scan has seen.
#[derive(Debug, Default)]
struct Scan {
    found: BTreeMap<String, usize>,
    bytes: usize,
    regions: usize,
    /// Regions that not even root can read, by name.
    unreadable: Vec<String>,
}

/// Bytes of a page.
const PAGE: u64 = 4096;

impl Scan {
    /// Reads all that can be read of a process, but for pages that it has never touched.
    fn of(pid: u32, needles: &Needles) -> Self {
        let mut scan = Self::default();
        let memory = File::open(format!("/proc/{pid}/mem")).expect("run as root");
        let pages = File::open(format!("/proc/{pid}/pagemap")).expect("run as root");
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("readable");
        let mut buffer = Vec::new();
        for line in maps.lines() {
            let mut fields = line.split_whitespace();
            let range = fields.next().expect("a range");
            let access = fields.next().expect("an access");
            let name = fields.nth(3).unwrap_or("anonymous");
            let (from, to) = range.split_once('-').expect("a range");
            let address = |text: &str| u64::from_str_radix(text, 16).expect("an address");
            scan.regions += 1;
            for (from, to) in touched(&pages, address(from), address(to)) {
                buffer.resize(usize::try_from(to - from).expect("small"), 0);
                match memory.read_exact_at(&mut buffer, from) {
                    Ok(()) => {
                        needles.find(&buffer, &mut scan.found);
                        scan.bytes += buffer.len();
                    }
                    Err(_) => {
                        scan.unreadable.push(format!("{name} {access}"));
                        break;
                    }
                }
            }
        }
        scan
    }

    fn secrets(&self) -> Vec<(&String, &usize)> {
        self.found.iter().filter(|(name, _)| *name != "marker").collect()
    }
}

/// The runs of pages that a process has touched; the first page of a region in any case.
fn touched(pages: &File, from: u64, to: u64) -> Vec<(u64, u64)> {
    let count = usize::try_from((to - from) / PAGE).expect("small");
    let mut entries = vec![0; 8 * count];
    let known = pages.read_exact_at(&mut entries, from / PAGE * 8).is_ok();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (number, entry) in entries.chunks_exact(8).enumerate() {
        let entry = u64::from_le_bytes(entry.try_into().expect("eight bytes"));
        // Bit 63: present; bit 62: swapped.
        if known && entry >> 62 == 0 && number > 0 {
            continue;
        }
        let at = from + number as u64 * PAGE;
        match runs.last_mut() {
            Some((_, end)) if *end == at => *end += PAGE,
            _ => runs.push((at, at + PAGE)),
        }
    }
    runs
}

/// ENC and DEC as fast as they go, and from time to time a login and a key that is cold.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn start(server: &Server, app: &App) -> Self {
        let client = server.client(app).await;
        let mut keys = Vec::new();
        for number in 0..64 {
            let key = client.genkey(&format!("warm-{number}"), 0, &[]).await.expect("a key");
            keys.push(key.index);
        }
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for worker in 0..4 {
            let client = server.client(app).await;
            let (stop, done, keys) = (stop.clone(), done.clone(), keys.clone());
            tasks.push(tokio::spawn(async move {
                let message = format!("message of worker {worker}").into_bytes();
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = keys[turn % keys.len()];
                    let envelope = client.enc(key, b"aad", &message).await.expect("sealed");
                    assert_eq!(client.dec(b"aad", &envelope).await.expect("opened"), message);
                    done.fetch_add(2, Ordering::Relaxed);
                }
            }));
        }
        let (url, credentials, stop_too) = (server.url(), app.clone(), stop.clone());
        tasks.push(tokio::spawn(async move {
            for turn in 0.. {
                if stop_too.load(Ordering::Relaxed) {
                    return;
                }
                let client = sealwire_client::Client::connect(&url, credentials.credentials());
                let client = client.await.expect("logs in");
                let name = format!("cold-{turn}");
                let key = client.genkey(&name, 0, &[]).await.expect("a key");
                client.enc(key.index, b"", b"cold").await.expect("sealed");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }));
        Self { stop, done, tasks }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no failed request");
        }
        self.done.load(Ordering::Relaxed)
    }
}

/// A server with this protection, unsealed with its cards, with a marker in its memory. With secret
/// memory it keeps few ciphers, so that it unwraps all the time: nothing can be read at any moment. With
/// locked memory, what is clear for the microseconds of an unwrap could be.
async fn server(memory: &str) -> (Server, App, String) {
    let ciphers = if memory == "memfd-secret" { 16 } else { 16_384 };
    let engine = format!(
        "chip = 'software'\nchip_key_file = 'FOLDER/chip.key'\nmemory = '{memory}'\n\
         cached_ciphers = {ciphers}"
    );
    let mut server = Server::with(&engine, "", Vec::new());
    server.init(3, 3).await;
    server.ceremony().seal().await.expect("sealed");
    server.unseal().await;
    let marker = "planted-marker-0f3a77c1".to_owned();
    server.key(&marker).await;
    server.key("chat").await;
    let app = server.local_app(&["enc,dec,genkey:*"]).await;
    let client = server.client(&app).await;
    client.enc(client.key(&marker).await.expect("a key").index, b"", b"x").await.expect("sealed");
    (server, app, marker)
}

async fn nothing_is_found(memory: &str, unreadable: &str) {
    let (server, app, marker) = server(memory).await;
    let needles = Needles::of(&server, &marker);
    let load = Load::start(&server, &app).await;
    let mut last = Scan::default();
    let mut tally = BTreeMap::<String, usize>::new();
    for number in 1..=scans() {
        last = Scan::of(server.pid(), &needles);
        assert!(last.found.contains_key("marker"), "the marker was not found: the scan is blind");
        for (name, hits) in last.secrets() {
            *tally.entry(name.clone()).or_default() += hits;
        }
        if number % 25 == 0 {
            println!("{memory}: {number} scans, found: {tally:?}");
        }
    }
    let requests = load.end().await;
    println!(
        "{memory}: {} scans of {} MiB in {} regions under load ({requests} requests); not readable: {:?}; \
         found: {tally:?}",
        scans(),
        last.bytes >> 20,
        last.regions,
        last.unreadable
    );
    assert!(tally.is_empty(), "{memory}: {tally:?}");
    let secret = last.unreadable.iter().filter(|name| name.contains("secretmem")).count();
    assert_eq!(secret > 0, !unreadable.is_empty(), "{:?}", last.unreadable);
    the_disk_holds_nothing(&server, &needles);
    a_core_dump_holds_nothing(&server, &needles);
}

/// The data folder and the log.
fn the_disk_holds_nothing(server: &Server, needles: &Needles) {
    let mut found = BTreeMap::new();
    let mut folders = vec![server.folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                needles.find(&std::fs::read(entry.path()).expect("readable"), &mut found);
            }
        }
    }
    assert!(found.remove("marker").is_some(), "the marker is not on the disk: the search is blind");
    assert!(found.is_empty(), "{found:?}");
}

/// A dump that root forces with a debugger, and the one that the kernel must not write.
fn a_core_dump_holds_nothing(server: &Server, needles: &Needles) {
    let folder = tempfile::tempdir().expect("a folder");
    let core = folder.path().join("core");
    let pid = server.pid().to_string();
    let dumped = Command::new("gcore").arg("-o").arg(&core).arg(&pid).output();
    let dumped = dumped.expect("gcore: ./scripts/test installs gdb");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let bytes = std::fs::read(folder.path().join(format!("core.{pid}"))).expect("a core");
    let mut found = BTreeMap::new();
    needles.find(&bytes, &mut found);
    println!("core dump: {} MiB", bytes.len() >> 20);
    assert!(found.remove("marker").is_some(), "the marker is not in the core: the search is blind");
    assert!(found.is_empty(), "{found:?}");

    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("readable");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    assert_locked(&pid);
}

/// Where there is no secret memory, locked pages that are neither dumped nor inherited.
fn assert_locked(pid: &str) {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("readable");
    let flags = smaps.lines().filter_map(|line| line.strip_prefix("VmFlags:"));
    let shielded = flags.filter(|flags| {
        ["lo", "dd", "dc"].iter().all(|flag| flags.split_whitespace().any(|found| found == *flag))
    });
    assert!(
        shielded.count() >= 3,
        "pre-key, kept secrets and stack are locked, undumpable, unforkable"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_root_key_is_in_memory_with_memfd_secret() {
    nothing_is_found("memfd-secret", "secretmem").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_root_key_is_in_memory_with_mlock_only() {
    nothing_is_found("mlock", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_scan_finds_a_root_key_that_is_not_shielded() {
    let (server, app, marker) = server("unprotected").await;
    let needles = Needles::of(&server, &marker);
    let load = Load::start(&server, &app).await;
    let scan = Scan::of(server.pid(), &needles);
    load.end().await;
    println!("unprotected: found {:?}", scan.found);
    for half in ["first", "second"] {
        assert!(scan.found.contains_key(&format!("root key, {half} half")), "{:?}", scan.found);
    }
    assert!(server.log().contains("`unprotected`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_a_half_done_unsealing_are_not_in_memory() {
    for memory in ["memfd-secret", "mlock"] {
        let (server, _, marker) = server(memory).await;
        let needles = Needles::of(&server, &marker);
        server.ceremony().seal().await.expect("sealed");
        for card in &server.cards[..2] {
            let bytes = card.bytes().expect("a card");
            server.ceremony().unseal(&bytes, &card.passphrase).await.expect("taken");
        }
        for _ in 0..3 {
            let scan = Scan::of(server.pid(), &needles);
            assert!(scan.found.contains_key("marker"), "the scan is blind");
            assert!(scan.secrets().is_empty(), "{memory}: {:?}", scan.found);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_steps_of_a_ceremony_nothing_is_in_memory() {
    let (server, _, marker) = server("mlock").await;
    let needles = Needles::of(&server, &marker);
    let look = |step: &str| {
        let scan = Scan::of(server.pid(), &needles);
        assert!(scan.found.contains_key("marker"), "the scan is blind");
        assert!(scan.secrets().is_empty(), "{step}: {:?}", scan.found);
    };
    let ceremony = server.ceremony();
    let mut reshare = ceremony.begin(CeremonyKind::Reshare).await.expect("begun");
    for card in &server.cards {
        reshare.show(&card.bytes().expect("a card"), &card.passphrase).await.expect("taken");
        look("show");
    }
    let made = reshare.make(2, vec![None; 2]).await.expect("made");
    look("make");
    for card in &made {
        reshare.confirm(&card.bytes().expect("a card"), &card.passphrase).await.expect("taken");
        look("confirm");
    }
    reshare.install().await.expect("in force");
    look("install");
}

/// A process that may be dumped belongs to its user in /proc, one that may not to root: then no other
/// process of that user reads its memory or attaches a debugger.
#[test]
fn the_server_of_an_ordinary_user_is_not_dumpable() {
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    // Where nobody can reach them.
    std::fs::copy(support::SEALWIRE, at("sealwire")).expect("copied");
    let config = format!(
        "data_dir = '{}'\n[engine]\nchip = 'none'\n[gateway]\nlisten = '127.0.0.1:0'\n",
        at("data").display()
    );
    std::fs::write(at("sealwire.toml"), config).expect("written");
    for path in [folder.path().to_owned(), at("sealwire"), at("sealwire.toml")] {
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("run as root");
    }
    let owner = |mut child: std::process::Child| {
        std::thread::sleep(Duration::from_secs(1));
        let memory = std::fs::metadata(format!("/proc/{}/mem", child.id())).expect("running");
        child.kill().expect("killed");
        child.wait().expect("gone");
        memory.uid()
    };
    let as_nobody = |program: &std::path::Path, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).uid(NOBODY).gid(NOBODY).stderr(std::process::Stdio::null());
        command.spawn().expect("starts")
    };
    let sleep = as_nobody(std::path::Path::new("sleep"), &["10"]);
    assert_eq!(owner(sleep), NOBODY, "an ordinary process belongs to its user");
    let config = at("sealwire.toml").display().to_string();
    let server = as_nobody(&at("sealwire"), &["serve", "--config", &config]);
    assert_eq!(owner(server), 0, "the server does not");
}
