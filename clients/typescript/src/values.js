/** Values on the wire: `{ className, data }`. */

/** A value of a class, for models and for kinds that a plain JavaScript value cannot name. */
export function typed(className, data) {
  if (typeof className !== "string" || className === "") throw new TypeError("a class name is a text");
  return { className, data };
}

/** The bytes as the server writes them: a value of the class `ByteData`. */
export function byteData(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return typed("ByteData", `decode('${btoa(text)}', 'base64')`);
}

/** The bytes of a member or value that was written as `decode('…', 'base64')`. */
export function bytesOf(text) {
  const found = typeof text === "string" ? /^decode\('([A-Za-z0-9+/=_-]*)', 'base64'\)$/.exec(text) : null;
  if (found === null) throw new TypeError("not bytes: expected decode('…', 'base64')");
  const plain = atob(found[1].replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (one) => one.charCodeAt(0));
}

/**
 * The value that travels for `value`: an object with `className` and `data` as it is, and a plain value by
 * its kind. Throws a `TypeError` for what has no class of its own: objects, arrays, functions, NaN.
 */
export function wireValue(value) {
  if (value === null || value === undefined) return { className: "null", data: null };
  switch (typeof value) {
    case "number":
      if (!Number.isFinite(value)) throw new TypeError("a number on the wire is finite");
      return { className: Number.isSafeInteger(value) ? "int" : "double", data: value };
    case "boolean":
      return { className: "bool", data: value };
    case "string":
      return { className: "String", data: value };
    case "bigint":
      return { className: "BigInt", data: value.toString() };
  }
  if (value instanceof Date) return { className: "DateTime", data: value.toISOString() };
  if (value instanceof URL) return { className: "Uri", data: value.href };
  if (value instanceof Uint8Array) return byteData(value);
  if (typeof value === "object" && typeof value.className === "string" && "data" in value) {
    return { className: value.className, data: value.data };
  }
  throw new TypeError('a value needs a class: use typed("ClassName", data)');
}
