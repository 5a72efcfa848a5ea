// SPDX-License-Identifier: Apache-2.0

import Testing
import UAPI

@Suite("Offsets of regions in a device file") struct RegionOffsetTests {
  @Test(
    "A region starts at 1 TiB or more, and its offsets give its index", arguments: [0, 1, 7, 8])
  func offsets(_ index: UInt64) {
    let start = RegionOffset.start(of: index)
    #expect(start >= 1 << 40)
    #expect(RegionOffset.index(of: start) == index)
    #expect(RegionOffset.index(of: start + (1 << 40) - 1) == index)
    #expect(RegionOffset.index(of: start - 1) == index &- 1)
    #expect(RegionOffset.position(in: start + 0x1234) == 0x1234)
  }
}
