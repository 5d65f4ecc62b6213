//! The endpoints `types` and `module.types`: a method for each type, which echoes its values.

use std::collections::BTreeSet;

use broker_streams::{
    BigInt, ByteData, DateTime, Endpoint, Incoming, InputError, Milliseconds, Model, Uri, UuidValue, Value,
    method,
};
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::calls::SimpleData;

#[derive(Clone, Debug, Serialize, Deserialize, Model)]
#[model(name = "module.ModuleData")]
struct ModuleData {
    name: String,
}

fn echo<T: Value>(input: Incoming<T>) -> impl Stream<Item = Result<T, InputError>> {
    input
}

pub(crate) fn endpoints() -> [Endpoint; 2] {
    ["types", "module.types"].map(|name| {
        let mut endpoint = Endpoint::new(name);
        macro_rules! echoes {
            ($($name:literal: $type:ty),* $(,)?) => {
                $(endpoint = endpoint.method($name, method(echo::<$type>).inputs(["input"]));)*
            };
        }
        echoes! {
            "int": i64,
            "double": f64,
            "bool": bool,
            "string": String,
            "optionalInt": Option<i64>,
            "byteData": ByteData,
            "dateTime": DateTime,
            "duration": Milliseconds,
            "uuid": UuidValue,
            "uri": Uri,
            "bigInt": BigInt,
            "ints": Vec<i64>,
            "optionalModels": Option<Vec<SimpleData>>,
            "modelsOptional": Vec<Option<SimpleData>>,
            "moduleModels": Vec<ModuleData>,
            "models": Vec<SimpleData>,
            "modelSet": BTreeSet<SimpleData>,
            "sets": Vec<BTreeSet<i64>>,
            "model": SimpleData,
            "moduleModel": ModuleData,
        }
        endpoint
    })
}
