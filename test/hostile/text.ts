/** Text that could move a cursor, hide what stands before it or turn it around, as anybody may put it into a name or a log. */
export const hostileTexts: readonly (readonly [name: string, text: string])[] = [
  ["a colour", "a\u001b[31mharm"],
  ["a cleared screen", "a\u001b[2J\u001b[Hharm"],
  ["a title of the window", "a\u001b]0;harm\u0007"],
  ["a link", "a\u001b]8;;http://harm\u001b\\click\u001b]8;;\u001b\\"],
  ["the clipboard", "a\u001b]52;c;aGFybQ==\u0007"],
  ["a sequence that never ends", "a\u001b]0;harm"],
  ["a device control string", "a\u001bP$qm\u001b\\harm"],
  ["an application command", "a\u001b_Gharm\u001b\\"],
  ["an escape alone", "a\u001b"],
  ["a sequence of C1", "a\u009b2Jharm"],
  ["a string of C1", "a\u009d0;harm\u009c"],
  ["NUL", "a\u0000harm"],
  ["a bell", "a\u0007"],
  ["steps backwards", "harmless\u0008\u0008\u0008\u0008"],
  ["a line begun anew", "a\rharm"],
  ["a second line", "a\nflashyard: harm"],
  ["a next line of C1", "a\u0085harm"],
  ["a line separator", "a\u2028harm"],
  ["text from right to left", "a\u202eharm"],
  ["an isolate", "a\u2067harm\u2069"],
  ["delete", "a\u007fharm"],
  ["shifts of the character set", "a\u000eharm\u000f"],
  ["half of a letter", Buffer.from([0x61, 0xc3]).toString()],
  ["half of a pair", "a\ud83d"],
];

/** Nothing of this reaches a terminal but the line ends that we write. */
export const harmful =
  // eslint-disable-next-line no-control-regex -- these are what it is about
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;
