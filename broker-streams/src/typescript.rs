//! TypeScript: the types of a server's methods and of what travels, for a client in that language.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::{self, Write},
};

use broker_model::Wire;
use ts_rs::{Config, TS, TypeVisitor};

use crate::{Streams, method::entry::Reply};

/// The types of a server's methods, to be written to a file for the TypeScript client.
///
/// A function does not tell what its parameters are in another language, so each method is described once more. [`write`](Self::write)
/// compares the methods, the names of their inputs, and whether they give a stream or a value with the server; the types it takes as
/// they are given. Arguments and values derive `ts_rs::TS`, of the crate `ts-rs` 12. Numbers are `number`, also those of 64 bits:
/// JSON does not distinguish them.
///
/// ```
/// # use broker_streams::{Args, Endpoint, Failure, Incoming, Model, Out, Streams, method};
/// # use broker_streams::typescript::Api;
/// # use serde::{Deserialize, Serialize};
/// use ts_rs::TS;
///
/// #[derive(Deserialize, TS)]
/// struct Room { room: String }
///
/// #[derive(Clone, Serialize, Deserialize, Model, TS)]
/// struct Said { who: String, text: String }
///
/// async fn room(Args(room): Args<Room>, said: Incoming<Said>, out: Out<Said>) -> Result<(), Failure> {
///     // …
/// #   let _ = (room.room, said, out);
/// #   Ok(())
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = broker::Broker::local();
/// let chat = Endpoint::new("chat").method("room", method(room).inputs(["said"]));
/// let streams = Streams::builder(broker).endpoint(chat).build()?;
///
/// let mut api = Api::new("broker-streams");
/// api.method("chat", "room").args::<Room>().input::<Said>("said").stream::<Said>();
/// let text = api.write(&streams)?;
/// assert!(text.contains("room(args: Room, inputs: { said: AsyncIterable<Value<\"Said\", Said>> }): Stream<Value<\"Said\", Said>>;"));
/// # Ok(()) }
/// ```
///
/// Keep the text in a file beside the page, and compare the two in a test: then the page is compiled against what the server has.
#[derive(Debug)]
pub struct Api {
    client: String,
    declared: BTreeMap<String, String>,
    methods: BTreeMap<(String, String), Described>,
}

/// What is said of one method.
#[derive(Debug, Default)]
struct Described {
    args: Option<String>,
    inputs: BTreeMap<String, Input>,
    /// Each class of the stream, or of the single value.
    gives: BTreeSet<String>,
    reply: Reply,
}

#[derive(Debug, Default)]
struct Input {
    optional: bool,
    classes: BTreeSet<String>,
}

impl Api {
    /// No methods. The types of the client are imported from that module, `broker-streams` or the path of a file.
    #[must_use]
    pub fn new(client: impl Into<String>) -> Self {
        Self { client: client.into(), declared: BTreeMap::new(), methods: BTreeMap::new() }
    }

    /// Describes a method; without more it takes nothing and gives nothing.
    pub fn method(&mut self, endpoint: &str, method: &str) -> MethodTypes<'_> {
        let described = self.methods.entry((endpoint.to_owned(), method.to_owned())).or_default();
        MethodTypes { declared: &mut self.declared, described }
    }

    /// Adds a type that no method names: that of a fault, for instance.
    pub fn declare<T: TS + 'static>(&mut self) -> &mut Self {
        Declaring { config: &config(), declared: &mut self.declared }.visit::<T>();
        self
    }

    /// The text of the file. It is the same for the same types.
    ///
    /// # Errors
    /// A method of one that the other does not have, or other inputs, or a stream where the method gives a value.
    pub fn write(&self, streams: &Streams) -> Result<String, DescribeError> {
        self.check(streams)?;
        let mut text = format!(
            "// Written by the server's tests. Do not edit.\nimport type {{ Stream, Value }} from {};\n",
            quoted(&self.client)
        );
        for declared in self.declared.values() {
            let _ = write!(text, "\nexport {declared}\n");
        }
        text.push_str("\nexport type Api = {\n");
        let mut current = None;
        for ((endpoint, method), described) in &self.methods {
            if current.replace(endpoint) != Some(endpoint) {
                text.push_str(if text.ends_with(";\n") { "  };\n" } else { "" });
                let _ = writeln!(text, "  {}: {{", property(endpoint));
            }
            let _ = writeln!(text, "    {}{described};", property(method));
        }
        text.push_str(if current.is_some() { "  };\n};\n" } else { "};\n" });
        Ok(text)
    }

    fn check(&self, streams: &Streams) -> Result<(), DescribeError> {
        let mut left: BTreeSet<_> = self.methods.keys().collect();
        for (endpoint, methods) in &streams.0.endpoints {
            for (method, entry) in &methods.methods {
                let name = (endpoint.to_string(), method.to_string());
                let wrong = |why: &str| DescribeError(format!("the method `{endpoint}.{method}` {why}"));
                let Some(described) = self.methods.get(&name) else {
                    return Err(wrong("is not described: call `Api::method`"));
                };
                left.remove(&name);
                let inputs: BTreeSet<&str> = entry.inputs.iter().map(|name| &**name).collect();
                if !described.inputs.keys().map(String::as_str).eq(inputs.iter().copied()) {
                    return Err(wrong(&format!("has the inputs {inputs:?}: describe each by `input`")));
                }
                if described.reply != entry.reply {
                    let remedy = match entry.reply {
                        Reply::Stream => "gives a stream: describe it by `stream`",
                        Reply::Value => "gives a single value: describe it by `value`",
                        Reply::Nothing => "gives nothing: leave `stream` and `value` out",
                    };
                    return Err(wrong(remedy));
                }
            }
        }
        match left.first() {
            Some((endpoint, method)) => Err(DescribeError(format!(
                "there is no method `{endpoint}.{method}`: take it out, or add it to the server"
            ))),
            None => Ok(()),
        }
    }
}

/// The types of one method.
#[derive(Debug)]
pub struct MethodTypes<'a> {
    declared: &'a mut BTreeMap<String, String>,
    described: &'a mut Described,
}

impl MethodTypes<'_> {
    /// The type of its [`Args`](crate::Args).
    pub fn args<T: TS + 'static>(&mut self) -> &mut Self {
        self.described.args = Some(T::name(&config()));
        self.declare::<T>()
    }

    /// An input. For one of several classes, call it once for each.
    pub fn input<T: Wire + TS>(&mut self, name: &str) -> &mut Self {
        let class = class::<T>();
        self.described.inputs.entry(name.to_owned()).or_default().classes.insert(class);
        self.declare::<T>()
    }

    /// An input that a client may leave out: an `Option<Incoming<T>>`.
    pub fn optional_input<T: Wire + TS>(&mut self, name: &str) -> &mut Self {
        self.described.inputs.entry(name.to_owned()).or_default().optional = true;
        self.input::<T>(name)
    }

    /// Its stream to the client. For one of several classes, call it once for each.
    pub fn stream<T: Wire + TS>(&mut self) -> &mut Self {
        self.gives::<T>(Reply::Stream)
    }

    /// Its single value. For one of several classes, call it once for each.
    pub fn value<T: Wire + TS>(&mut self) -> &mut Self {
        self.gives::<T>(Reply::Value)
    }

    fn gives<T: Wire + TS>(&mut self, reply: Reply) -> &mut Self {
        self.described.reply = reply;
        self.described.gives.insert(class::<T>());
        self.declare::<T>()
    }

    fn declare<T: TS + 'static>(&mut self) -> &mut Self {
        Declaring { config: &config(), declared: self.declared }.visit::<T>();
        self
    }
}

/// JSON does not distinguish large numbers from others.
fn config() -> Config {
    Config::new().with_large_int("number")
}

/// Collects the declarations of types, and of those that they are made of.
struct Declaring<'a> {
    config: &'a Config,
    declared: &'a mut BTreeMap<String, String>,
}

impl TypeVisitor for Declaring<'_> {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        if T::output_path().is_some() {
            let name = T::ident(self.config);
            if self.declared.contains_key(&name) {
                return;
            }
            self.declared.insert(name, T::decl(self.config));
        }
        T::visit_dependencies(self);
        T::visit_generics(self);
    }
}

/// A value of the type, as the client sees it.
fn class<T: Wire + TS>() -> String {
    let (name, data) = (T::type_name(), T::name(&config()));
    match name.strip_suffix('?') {
        Some(inner) => {
            // A collection keeps the mark, and null has a class of its own.
            let name = if inner.ends_with('>') { &name } else { inner };
            let data = data.strip_suffix(" | null").unwrap_or(&data);
            format!(r#"Value<"null", null> | Value<{}, {data}>"#, quoted(name))
        }
        None => format!("Value<{}, {data}>", quoted(&name)),
    }
}

fn union(classes: &BTreeSet<String>) -> String {
    classes.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
}

/// A text as TypeScript writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The name of a property.
fn property(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if plain { name.to_owned() } else { quoted(name) }
}

/// What follows the name of a method.
impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, inputs, gives, reply } = self;
        match (args, inputs.is_empty()) {
            (None, true) => f.write_str("()")?,
            (args, true) => write!(f, "(args: {})", args.as_deref().unwrap_or_default())?,
            (args, false) => {
                let all_optional = inputs.values().all(|input| input.optional);
                let args = args.as_deref().unwrap_or("Record<string, never>");
                write!(f, "(args: {args}, inputs{}: {{ ", if all_optional { "?" } else { "" })?;
                for (at, (name, input)) in inputs.iter().enumerate() {
                    let (comma, mark) =
                        (if at > 0 { "; " } else { "" }, if input.optional { "?" } else { "" });
                    write!(f, "{comma}{}{mark}: AsyncIterable<{}>", property(name), union(&input.classes))?;
                }
                f.write_str(" })")?;
            }
        }
        match reply {
            Reply::Nothing => f.write_str(": Promise<void>"),
            Reply::Value => write!(f, ": Promise<{}>", union(gives)),
            Reply::Stream => write!(f, ": Stream<{}>", union(gives)),
        }
    }
}

/// The description is not that of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeError(String);

impl fmt::Display for DescribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for DescribeError {}
