"""Two processes of Django Channels on channels_redis, its layer over PUBLISH: one sends to a group, the other receives.

    python channels.py hear|post URL COUNT

Says `ready`; the one that posts begins with a line of its input; the one that hears says `done` at the last. Both end with
their input.
"""

import asyncio
import sys

from channels_redis.pubsub import RedisPubSubChannelLayer

IN_FLIGHT = 256
MESSAGE = {"type": "news", "text": "x" * 64}


async def hear(layer, count):
    channel = await layer.new_channel()
    await layer.group_add("news", channel)
    print("ready", flush=True)
    for _ in range(count):
        await layer.receive(channel)
    print("done", flush=True)


async def post(layer, count):
    await layer.group_send("nobody", MESSAGE)  # it is connected
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for _ in range(count // IN_FLIGHT):
        await asyncio.gather(*(layer.group_send("news", MESSAGE) for _ in range(IN_FLIGHT)))


async def main(role, url, count):
    layer = RedisPubSubChannelLayer(hosts=[url])
    await (hear if role == "hear" else post)(layer, int(count))
    await asyncio.to_thread(sys.stdin.read)


asyncio.run(main(*sys.argv[1:]))
