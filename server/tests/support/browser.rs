//! A real browser: Chromium, driven over WebDriver (W3C WebDriver Level 1).

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::time::timeout;

/// Time for a page to show what a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser, and the program that drives it.
pub(crate) struct Browser {
    client: Client,
    driver: Child,
    /// Where pictures of pages go: `target/tmp/pages/`.
    pictures: PathBuf,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // With the browser, which is of the same group.
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
        let _ = self.driver.wait();
    }
}

/// What a form field is called, by its `name`.
fn field(name: &str) -> String {
    format!("main [name={name:?}]:not([type=hidden])")
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Browser {
    /// Starts one that wants pages in a language.
    pub(crate) async fn start(language: &str) -> Self {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver: ./scripts/test installs it");
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("acceptInsecureCerts".into(), json!(true));
        capabilities.insert(
            "goog:chromeOptions".into(),
            json!({
                "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900",
                         format!("--lang={language}"), format!("--accept-lang={language}")],
                "prefs": {"intl.accept_languages": language},
            }),
        );
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let (begun, at) = (Instant::now(), format!("http://127.0.0.1:{port}"));
        let client = loop {
            match timeout(PATIENCE, builder.connect(&at)).await.expect("a browser") {
                Ok(client) => break client,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "chromedriver: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pages");
        std::fs::create_dir_all(&pictures).expect("made");
        Self { client, driver, pictures }
    }

    /// Ends it.
    pub(crate) async fn close(self) {
        self.client.clone().close().await.expect("closed");
    }

    pub(crate) async fn go(&self, url: &str) {
        self.client.goto(url).await.expect(url);
    }

    pub(crate) async fn reload(&self) {
        self.client.refresh().await.expect("reloaded");
    }

    /// The path of the page, without its site.
    pub(crate) async fn path(&self) -> String {
        self.client.current_url().await.expect("a page").path().to_owned()
    }

    /// The element, as soon as it is there.
    pub(crate) async fn find(&self, css: &str) -> Element {
        let wait = self.client.wait().at_most(PATIENCE);
        match wait.for_element(Locator::Css(css)).await {
            Ok(element) => element,
            Err(error) => panic!("{css}: {error}\n{}", self.source().await),
        }
    }

    pub(crate) async fn has(&self, css: &str) -> bool {
        self.client.find(Locator::Css(css)).await.is_ok()
    }

    pub(crate) async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.expect(css)
    }

    pub(crate) async fn attribute(&self, css: &str, name: &str) -> Option<String> {
        self.find(css).await.attr(name).await.expect(css)
    }

    pub(crate) async fn source(&self) -> String {
        self.client.source().await.expect("a page")
    }

    /// Fills in a field of a form.
    pub(crate) async fn fill(&self, name: &str, text: &str) {
        self.fill_in(&field(name), text).await;
    }

    pub(crate) async fn fill_in(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.expect(css);
        field.send_keys(text).await.expect(css);
    }

    /// Follows a link, or sends a form, and waits for the page that comes of it.
    pub(crate) async fn click(&self, css: &str) {
        let before = self.page().await;
        self.find(css).await.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
        let begun = Instant::now();
        while [&before, &json!(0), &Value::Null].contains(&&self.page().await) {
            assert!(begun.elapsed() < PATIENCE, "{css} led nowhere");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Which page it is: another number for each that was loaded.
    async fn page(&self) -> Value {
        let script = "return document.readyState === 'complete' ? performance.timeOrigin : 0";
        // Between two pages there is none.
        self.client.execute(script, Vec::new()).await.unwrap_or(Value::Null)
    }

    pub(crate) async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.expect("a script that runs")
    }

    /// Types keys, wherever the page has its focus.
    pub(crate) async fn press(&self, keys: &str) {
        let active = self.client.active_element().await.expect("an element");
        active.send_keys(keys).await.expect("typed");
    }

    /// What scripts can read of the cookies.
    pub(crate) async fn cookies_of_scripts(&self) -> String {
        self.run("return document.cookie").await.as_str().unwrap_or_default().to_owned()
    }

    /// Takes a picture of the whole page, light and dark.
    pub(crate) async fn picture(&self, name: &str) {
        for theme in ["light", "dark"] {
            self.run(&format!("document.documentElement.dataset.theme = '{theme}'")).await;
            self.client.set_window_size(1280, 700).await.expect("set");
            let height = self.run("return document.documentElement.scrollHeight").await;
            let height = u32::try_from(height.as_u64().unwrap_or(900)).unwrap_or(900);
            self.client.set_window_size(1280, (height + 140).clamp(700, 4000)).await.expect("set");
            let picture = self.client.screenshot().await.expect("a picture");
            std::fs::write(self.pictures.join(format!("{name}-{theme}.png")), picture)
                .expect("written");
        }
        self.run("document.documentElement.dataset.theme = 'system'").await;
    }

    /// The same of what the window shows.
    pub(crate) async fn picture_as_it_is(&self, name: &str) {
        let picture = self.client.screenshot().await.expect("a picture");
        std::fs::write(self.pictures.join(format!("{name}.png")), picture).expect("written");
    }

    /// Whether the page's first frame shows an element.
    pub(crate) async fn shows_in_frame(&self, css: &str) -> bool {
        self.client.enter_frame(0).await.expect("a frame");
        let shows = self.client.find(Locator::Css(css)).await.is_ok();
        self.client.enter_parent_frame().await.expect("left");
        shows
    }

    /// Has the page in a window as wide as a telephone's, or as a computer's again.
    pub(crate) async fn set_width(&self, width: u32) {
        self.client.set_window_size(width, 900).await.expect("set");
    }
}
