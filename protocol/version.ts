/** The version of this farm's software, as in package.json; a test compares the two. */
export const farmVersion = "0.1.0";
