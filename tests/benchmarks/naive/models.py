"""The table."""

from __future__ import annotations

import os
from datetime import datetime
from uuid import UUID

from cryptography.fernet import Fernet
from sqlalchemy import DateTime, Dialect, LargeBinary, TypeDecorator, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

fernet = Fernet(os.environ["NAIVE_FERNET_KEY"])
engine = create_engine(os.environ["NAIVE_DATABASE_URL"])
Session = sessionmaker(engine)


class Base(DeclarativeBase):
    """The declarative base."""


class EncryptedText(TypeDecorator[str]):
    """Text that is encrypted on its way to the database."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else fernet.encrypt(value.encode())

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else fernet.decrypt(value).decode()


class Connection(Base):
    """A connected account."""

    __tablename__ = "connections"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    access_token: Mapped[str] = mapped_column(EncryptedText)
    refresh_token: Mapped[str] = mapped_column(EncryptedText)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    updated_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
