# Without comments: they are in the project's file of this name.
from typing import Final
_CHARACTERS: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES: Final = {character: value for value, character in enumerate(_CHARACTERS)}
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_SUM = 6
def decode(text):
 if text not in (text.lower(), text.upper()):
  raise ValueError("it mixes upper and lower case")
 text = text.lower()
 prefix, one, data = text.rpartition("1")
 if not one or not prefix or len(data) < _SUM:
  raise ValueError("it is too short")
 if not all(33 <= ord(character) <= 126 for character in prefix):
  raise ValueError("its prefix has an invalid character")
 try:
  values = [_VALUES[character] for character in data]
 except KeyError:
  raise ValueError("it has a character that no key has") from None
 if _checksum([*_spread(prefix), *values]) != 1:
  raise ValueError("its checksum is wrong: a character is missing or mistyped")
 return prefix, _bytes_of(values[:-_SUM])
def encode(prefix, content):
 values = _values_of(content)
 rest = _checksum([*_spread(prefix), *values, *[0] * _SUM]) ^ 1
 values += [(rest >> 5 * (_SUM - 1 - place)) & 31 for place in range(_SUM)]
 return f"{prefix}1{''.join(_CHARACTERS[value] for value in values)}"
def _spread(prefix):
 codes = prefix.encode()
 return [*(code >> 5 for code in codes), 0, *(code & 31 for code in codes)]
def _checksum(values):
 rest = 1
 for value in values:
  top = rest >> 25
  rest = (rest & 0x1FFFFFF) << 5 ^ value
  for bit, generator in enumerate(_GENERATOR):
   rest ^= generator if top >> bit & 1 else 0
 return rest
def _values_of(content):
 bits = "".join(f"{byte:08b}" for byte in content)
 bits += "0" * (-len(bits) % 5)
 return [int(bits[place : place + 5], 2) for place in range(0, len(bits), 5)]
def _bytes_of(values):
 bits = "".join(f"{value:05b}" for value in values)
 length = len(bits) // 8
 padding = bits[8 * length :]
 if len(padding) > 4 or "1" in padding:
  raise ValueError("its padding is wrong")
 return bytes(int(bits[place : place + 8], 2) for place in range(0, 8 * length, 8))
