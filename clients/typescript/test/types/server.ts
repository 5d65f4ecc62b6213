// Written by the server's tests. Do not edit.
import type { Stream, Value } from "broker-streams";

export type Image = { pixels: string, takenAt: string, shownFor: number, owner: Owner | null, layers: Array<Layer>, labels: { [key in string]: number }, };

export type Layer = "Plain" | { "Coloured": number } | { "Named": { name: string, } };

export type NoSuchPixel = { pixel: number, };

export type Owner = { id: string, page: string, votes: string, };

export type Room = { room: string, };

export type Update = { pixel: number, colour: number, };

export type Api = {
  board: {
    imageUpdates(): Stream<Value<"Image", Image> | Value<"board.Update", Update>>;
    setPixel(args: Update): Promise<void>;
  };
  "module.chat": {
    lists(args: Record<string, never>, inputs?: { lists?: AsyncIterable<Value<"List<String>", Array<string>>> }): Promise<Value<"null", null> | Value<"List<int>?", Array<number>>>;
    room(args: Room, inputs: { numbers?: AsyncIterable<Value<"int", number>>; updates: AsyncIterable<Value<"board.Update", Update>> }): Stream<Value<"null", null> | Value<"board.Update", Update>>;
    sum(args: Record<string, never>, inputs: { values: AsyncIterable<Value<"double", number>> }): Promise<Value<"double", number>>;
  };
};
