//! Formats the documented settings file for `--help`: each key with its variable, default and description.

const DOCUMENTED: &str = include_str!("../../config/server.toml");

/// A list of all settings. A comment above several keys belongs to all of them.
pub fn reference() -> String {
    let mut text = String::from(
        "Settings: key of the file, variable and default. `--set KEY=VALUE` sets any of them. Flags override \
         variables, variables override the file.\n",
    );
    // The first block is about the file itself.
    let body = DOCUMENTED.split_once("\n\n").map_or(DOCUMENTED, |(_, body)| body);
    for block in body.split("\n\n") {
        let (comments, keys): (Vec<&str>, Vec<&str>) = block.lines().partition(|line| line.starts_with('#'));
        text.push('\n');
        for (key, default) in keys.iter().filter_map(|line| line.split_once(" = ")) {
            let variable = format!("{}{}", super::ENV_PREFIX, key.to_ascii_uppercase());
            text.push_str(&format!("  {key}, {variable} [default: {default}]\n"));
        }
        let comments = comments.iter().map(|line| line.trim_start_matches('#').trim());
        if keys.is_empty() {
            // An example keeps its line breaks.
            comments.for_each(|line| text.push_str(&format!("  {line}\n")));
        } else {
            text.push_str(&format!("          {}\n", comments.collect::<Vec<_>>().join(" ")));
        }
    }
    text
}
