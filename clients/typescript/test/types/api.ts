/** Compiled, never run: the types of a client with an `Api`, and what they must refuse. */
import { connect, Gap, Input, Restarted, Resumed, StreamFault, typed } from "broker-streams";
import type { Int, Stream, Value } from "broker-streams";
import type { Api as ServerApi } from "./server.js";

type ImageData = Value<"ImageData", { pixels: string; width: number; height: number }>;
type ImageUpdate = Value<"ImageUpdate", { pixelIndex: number; colorIndex: number }>;
type Say = Value<"Say", { text: string }>;
type Said = Value<"Said", { who: string; text: string }>;
type Api = {
  pixorama: {
    imageUpdates(): Stream<ImageData | ImageUpdate>;
    setPixel(a: { pixelIndex: number; colorIndex: number }): Promise<void>;
  };
  chat: {
    room(a: { room: string }, inputs: { outgoing: AsyncIterable<Say> }): Stream<Said>;
    count(a: {}, inputs?: { numbers?: AsyncIterable<Int> }): Promise<Int>;
  };
};

declare function token(): Promise<string>;
declare function draw(data: ImageData["data"]): void;
declare function paint(data: ImageUpdate["data"]): void;

const api = connect<Api>("wss://example.org/v1/websocket", {
  credentials: async () => `Bearer ${await token()}`,
});
const end = api.status.subscribe((status) => {
  if (status.state === "waiting") status.ms.toFixed();
  // @ts-expect-error only a wait has a time
  if (status.state === "connected") status.ms;
});
end();

const { signal } = new AbortController();
const pictures = api.call.pixorama.imageUpdates({}, { signal, resume: true });
for await (const item of pictures) {
  if (item.className === "ImageData") draw(item.data);
  else paint(item.data);
}
for await (const item of api.call.pixorama.imageUpdates().events()) {
  if (item instanceof Gap) item.gap.n?.toFixed();
  else if (item instanceof Restarted) Object.keys(item.restarted.unacknowledged);
  else if (item instanceof Resumed) item.resumed.by satisfies "exact" | "cursor";
  else if (item.className === "ImageUpdate") paint(item.data);
}

const nothing: void = await api.call.pixorama.setPixel({ pixelIndex: 1, colorIndex: 2 }, { deadline: 5000 });
api.call.pixorama.setPixel({ pixelIndex: 1, colorIndex: 2 }).catch((error: unknown) => {
  if (error instanceof StreamFault) error.className.trim();
});
const sum: number = (await api.call.chat.count({}, { inputs: { numbers: [1, 2, 3] } })).data;
await api.call.chat.count({});

const says = new Input<Say>();
says.send(typed("Say", { text: "hello" }));
const room = api.call.chat.room({ room: "a" }, { inputs: { outgoing: says } });
for await (const said of room) said.data.who.trim();

// @ts-expect-error there is no such endpoint
api.call.nothing;
// @ts-expect-error there is no such method
api.call.chat.nothing;
// @ts-expect-error an argument is missing
api.call.pixorama.setPixel({ pixelIndex: 1 });
// @ts-expect-error the input is missing
api.call.chat.room({ room: "a" });
// @ts-expect-error an input of another class
api.call.chat.room({ room: "a" }, { inputs: { outgoing: [typed("Said", { text: "a" })] } });
// @ts-expect-error inputs are an option, not an argument of their own
api.call.chat.room({ room: "a" }, { outgoing: says });
// An async function reads the stream that it returns, and its type says so.
const read = async () => api.call.chat.room({ room: "a" }, { inputs: { outgoing: says } });
read satisfies () => Promise<Said | undefined>;

const any = connect("/v1/websocket");
const values = any.call["module.endpoint"]!.method!({ a: 1 }, { inputs: { one: [1] } });
for await (const value of values) value.className.trim();
void [nothing, sum, any.open("chat", "room")];

// The types that a server has written.
const written = connect<ServerApi>("wss://example.org/v1/websocket");
for await (const item of written.call.board.imageUpdates()) {
  if (item.className === "Image") item.data.takenAt.trim();
  else item.data.pixel.toFixed();
}
await written.call.board.setPixel({ pixel: 1, colour: 2 });
const updates = new Input<Value<"board.Update", { pixel: number; colour: number }>>();
for await (const item of written.call["module.chat"].room({ room: "a" }, { inputs: { updates } })) {
  if (item.className === "board.Update") item.data.colour.toFixed();
}
(await written.call["module.chat"].sum({}, { inputs: { values: [1, 2.5] } })).data.toFixed();
await written.call["module.chat"].lists({});
// @ts-expect-error a colour is a number
written.call.board.setPixel({ pixel: 1, colour: "red" });
