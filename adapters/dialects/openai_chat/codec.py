"""OpenAI Chat Completions for those who speak another dialect: both halves of its codec."""

from __future__ import annotations

from adapters.dialects.openai_chat.conversation_reader import read_conversation
from adapters.dialects.openai_chat.conversation_writer import write_conversation
from adapters.dialects.openai_chat.quirks import STANDARD, Quirks
from adapters.dialects.openai_chat.reply_reader import ReplyReader, read_reply
from adapters.dialects.openai_chat.reply_writer import ReplyWriter, write_reply
from domain.inference.chat import ChatCall
from domain.inference.conversation import Conversation, Written
from domain.inference.reply import Reply
from domain.usage import Usage


class OpenAIChatCaller:
    """The port `CallerCodec`."""

    def read_conversation(self, body: bytes) -> Conversation:
        return read_conversation(body)

    def write_reply(self, reply: Reply, usage: Usage, call: ChatCall) -> bytes:
        return write_reply(reply, usage, call)

    def reply_writer(self, call: ChatCall) -> ReplyWriter:
        return ReplyWriter(call)


class OpenAIChatCodec:
    """The port `VendorCodec`, for a vendor with these quirks."""

    def __init__(self, quirks: Quirks = STANDARD) -> None:
        self._quirks = quirks

    def write_conversation(self, conversation: Conversation, call: ChatCall) -> Written:
        return write_conversation(conversation, call, self._quirks)

    def read_reply(self, body: bytes) -> Reply:
        return read_reply(body, self._quirks)

    def reply_reader(self) -> ReplyReader:
        return ReplyReader(self._quirks)
