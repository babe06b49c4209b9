# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the demo guest's data, the same each time: documents for PostgreSQL
(COPY text), records for redis (its wire protocol) and pages for nginx.

Text is drawn word by word from a vocabulary whose frequencies fall as those
of a language do, with numbers between: zstd -1 leaves 40 % of it, -3 with its
larger window 35 %. (Text of whole phrases that come again would favour
whatever looks back far, beyond what real data does.)"""

import itertools
import random
import string

VOCABULARY = 20000
# Of the letters a to z, in percent, about as in English.
LETTERS = (8, 1.5, 3, 4, 12, 2, 2, 6, 7, 0.2, 0.8, 4, 2.5, 7, 7.5, 2, 0.1, 6,
           6.3, 9, 3, 1, 2.4, 0.2, 2, 0.1)


class Text:
    def __init__(self, seed):
        words = random.Random(1)
        self._words = [''.join(words.choices(string.ascii_lowercase,
                                             weights=LETTERS,
                                             k=words.randint(2, 11)))
                       for _ in range(VOCABULARY)]
        self._weights = list(itertools.accumulate(
            1 / (rank + 8) for rank in range(VOCABULARY)))
        self.rng = random.Random(seed)

    def text(self, words):
        return ' '.join(self.rng.choices(self._words,
                                         cum_weights=self._weights, k=words))

    def record(self, number, words):
        rng = self.rng
        return (f'{{"id":{number},"key":"{rng.getrandbits(64):016x}",'
                f'"amount":{rng.randint(1, 10 ** 7) / 100},'
                f'"time":{1700000000 + rng.randint(0, 10 ** 7)},'
                f'"text":"{self.text(words)}"}}')


def documents(path, rows):
    source = Text(2)
    with open(path, 'w', encoding='ascii') as out:
        for number in range(rows):
            out.write(f'{number}\t{source.rng.randint(1, 5000)}\t'
                      f'{source.record(number, 145)}\n')


def redis_commands(path, rows):
    source = Text(3)
    with open(path, 'w', encoding='ascii', newline='') as out:
        for number in range(rows):
            key, value = f'session:{number}', source.record(number, 65)
            out.write(f'*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n'
                      f'${len(value)}\r\n{value}\r\n')


def web_pages(directory, count):
    source = Text(4)
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        body = ''.join(f'<p>{source.text(80)}</p>\n'
                       for _ in range(source.rng.randint(4, 60)))
        (directory / f'{number}.html').write_text(
            f'<html><body>\n{body}</body></html>\n', encoding='ascii')
