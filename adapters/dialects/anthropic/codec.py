"""Anthropic's Messages for those who speak another dialect: both halves of its codec."""

from __future__ import annotations

from adapters.dialects.anthropic.conversation_reader import read_conversation
from adapters.dialects.anthropic.conversation_writer import write_conversation
from adapters.dialects.anthropic.reply_reader import ReplyReader, read_reply
from adapters.dialects.anthropic.reply_writer import ReplyWriter, write_reply
from domain.inference.chat import ChatCall
from domain.inference.conversation import Conversation, Written
from domain.inference.reply import Reply
from domain.usage import Usage


class AnthropicCaller:
    """The port `CallerCodec`."""

    def read_conversation(self, body: bytes) -> Conversation:
        return read_conversation(body)

    def write_reply(self, reply: Reply, usage: Usage, call: ChatCall) -> bytes:
        return write_reply(reply, usage, call)

    def reply_writer(self, call: ChatCall) -> ReplyWriter:
        return ReplyWriter(call)


class AnthropicCodec:
    """The port `VendorCodec`."""

    def write_conversation(self, conversation: Conversation, call: ChatCall) -> Written:
        return write_conversation(conversation, call)

    def read_reply(self, body: bytes) -> Reply:
        return read_reply(body)

    def reply_reader(self) -> ReplyReader:
        return ReplyReader()
