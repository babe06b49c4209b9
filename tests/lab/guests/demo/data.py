# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the demo guest's data, the same each time: documents for PostgreSQL
(COPY text), records for redis (its wire protocol) and pages for nginx.

Text is put together from some ten thousand phrases with numbers between them:
as compressible as customers' records and articles are (zstd: about a third)."""

import random
import string

PHRASES = 20000


def phrases(rng):
    words = [''.join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 11)))
             for _ in range(8000)]
    return [' '.join(rng.choices(words, k=rng.randint(4, 9)))
            for _ in range(PHRASES)]


class Text:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.phrases = phrases(random.Random(1))

    def text(self, count):
        return ' '.join(self.rng.choices(self.phrases, k=count))

    def record(self, number, count):
        rng = self.rng
        return (f'{{"id":{number},"key":"{rng.getrandbits(64):016x}",'
                f'"amount":{rng.randint(1, 10 ** 7) / 100},'
                f'"time":{1700000000 + rng.randint(0, 10 ** 7)},'
                f'"text":"{self.text(count)}"}}')


def documents(path, rows):
    source = Text(2)
    with open(path, 'w', encoding='ascii') as out:
        for number in range(rows):
            out.write(f'{number}\t{source.rng.randint(1, 5000)}\t'
                      f'{source.record(number, 20)}\n')


def redis_commands(path, rows):
    source = Text(3)
    with open(path, 'w', encoding='ascii', newline='') as out:
        for number in range(rows):
            key, value = f'session:{number}', source.record(number, 10)
            out.write(f'*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n'
                      f'${len(value)}\r\n{value}\r\n')


def web_pages(directory, count):
    source = Text(4)
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        body = ''.join(f'<p>{source.text(12)}</p>\n'
                       for _ in range(source.rng.randint(4, 60)))
        (directory / f'{number}.html').write_text(
            f'<html><body>\n{body}</body></html>\n', encoding='ascii')
