"""Converse for those who speak another dialect: the vendor's half of its codec."""

from __future__ import annotations

from adapters.dialects.bedrock_converse.conversation_writer import write_conversation
from adapters.dialects.bedrock_converse.reply_reader import ReplyReader, read_reply
from domain.inference.chat import ChatCall
from domain.inference.conversation import Conversation, Written
from domain.inference.reply import Reply


class ConverseCodec:
    """The port `VendorCodec`."""

    def write_conversation(self, conversation: Conversation, call: ChatCall) -> Written:
        return write_conversation(conversation, call)

    def read_reply(self, body: bytes) -> Reply:
        return read_reply(body)

    def reply_reader(self) -> ReplyReader:
        return ReplyReader()
