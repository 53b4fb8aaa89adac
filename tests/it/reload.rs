//! SIGHUP to a running server: new keys and a new model, or the old ones if the new ones are broken.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tutti::decode::{DecodeOptions, InferenceModel, Steps, translate_passages};
use tutti::http::new_key;
use tutti::model::{Backend, Bundle, Dtype, Spec};

use crate::process::{bundle, tutti};
use crate::program::Program;
use crate::support::{LINES, TOKENIZER, en_de, in_time};

const STEPS: u8 = 4;

struct Served {
    program: Program,
    url: String,
    client: reqwest::Client,
}

impl Served {
    /// Status and answer of a translation with this key.
    async fn ask(&self, key: &str) -> (u16, Value) {
        let url = format!("{}/translate?steps={STEPS}&length_beam=1", self.url);
        let request = self.client.post(url).bearer_auth(key).json(&en_de(LINES[0]));
        let response = in_time(request.send()).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The statuses of translations with these keys.
    async fn statuses(&self, keys: [&str; 2]) -> [u16; 2] {
        [self.ask(keys[0]).await.0, self.ask(keys[1]).await.0]
    }

    /// The checksum of the model's weights.
    async fn checksum(&self) -> String {
        let response = in_time(self.client.get(format!("{}/info", self.url)).send()).await.unwrap();
        let info: Value = response.json().await.unwrap();
        info["models"][0]["checksum"].as_str().unwrap_or_else(|| panic!("{info}")).to_owned()
    }

    /// Sends SIGHUP and waits until the server has dealt with it. The model comes last.
    fn hang_up(&mut self) {
        let reloads = |log: &str| log.matches("the model was ").count();
        let before = reloads(&self.program.log());
        self.program.signal("HUP");
        self.program.until(|log| (reloads(log) > before).then_some(()));
    }
}

/// What a bundle makes of the line that is asked for.
fn translation(folder: &Path) -> String {
    let bundle = Bundle::open(folder).unwrap();
    let network = InferenceModel::open(&bundle, &Backend::cpu().with_dtype(Dtype::Q8)).unwrap();
    let mut passages = [bundle.reader().read(LINES[0])];
    let options = DecodeOptions { length_beam: 1, ..DecodeOptions::new(Steps::new(STEPS).unwrap()) };
    translate_passages(&network, &mut passages, &options).unwrap();
    passages[0].text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_sighup_keys_and_model_are_replaced_and_broken_ones_are_not() {
    let folder = bundle();
    let (model, keys) = (folder.path().join("tiny"), folder.path().join("keys.toml"));
    let [(first, first_entry), (second, second_entry)] = ["first", "second"].map(new_key);
    fs::write(&keys, first_entry).unwrap();
    let mut command = tutti(&folder);
    command.args(["--set", "api_keys=keys.toml"]);
    let (program, url) = Program::serve(command, "tiny");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut server = Served { program, url, client };
    in_time(async {
        while server.client.get(format!("{}/readyz", server.url)).send().await.unwrap().status() != 200 {}
    })
    .await;
    assert_eq!(server.statuses([&first, &second]).await, [200, 403]);
    let old = Bundle::open(&model).unwrap();
    assert_eq!(server.checksum().await, old.checksum);

    fs::write(&keys, second_entry).unwrap();
    server.hang_up();
    assert_eq!(server.statuses([&first, &second]).await, [403, 200]);
    assert_eq!(server.checksum().await, old.checksum);

    let tensors = Spec::initial(&old.config.shape, 8, Backend::cpu().device()).unwrap();
    Bundle::save(&model, &old.config, &TOKENIZER, &tensors, "Other weights.\n").unwrap();
    server.hang_up();
    let new = Bundle::open(&model).unwrap();
    assert_ne!(new.checksum, old.checksum);
    assert_eq!(server.checksum().await, new.checksum);
    let translated = translation(&model);
    assert_eq!(server.ask(&second).await.1["translatedText"], translated);

    fs::write(model.join(Bundle::WEIGHTS), "cut").unwrap();
    fs::write(&keys, "[[keys]]\nname = 7\n").unwrap();
    server.hang_up();
    let log = server.program.log();
    for kept in ["the API keys were not reloaded; the old ones", "the model was not reloaded; the old one"] {
        assert_eq!(log.matches(kept).count(), 1, "{log}");
    }
    assert_eq!(server.statuses([&first, &second]).await, [403, 200]);
    assert_eq!(server.checksum().await, new.checksum);
    assert_eq!(server.ask(&second).await.1["translatedText"], translated);
}
