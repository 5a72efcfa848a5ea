// SPDX-License-Identifier: Apache-2.0

// Random pins of overlapping ranges of one file against a count for each page.

import CLinux
import Glibc
import Host
import SystemPackage
import TestSupport
import Testing

@testable import IOMMU

@Suite struct PinProperties {
  @Test(
    "exactly the pinned pages of a file are accessible and hold the bytes of the file",
    arguments: [1, 2, 3] as [UInt64])
  func pinnedPagesAreThere(seed: UInt64) throws {
    let memory = try PhysicalMemory(.test)
    let pages = 200
    let memfd = try makeNumberedMemfd(pages: pages)
    // The pages of a file have adjacent addresses, so the first page determines the others.
    let base = try memory.pin(.file(memfd, offset: 0), pages: 1)[0]
    memory.unpin(base)
    var counts = [Int](repeating: 0, count: pages)
    var held: [(first: Int, runs: [FrameRun], pages: Int)] = []
    var random = SeededGenerator(seed: seed)
    for step in 0..<600 {
      if held.isEmpty || Int.random(in: 0..<held.count + 8, using: &random) < 8 {
        let first = Int.random(in: 0..<pages, using: &random)
        let length = Int.random(in: 1...min(pages - first, 70), using: &random)
        let source = FrameSource.file(memfd, offset: UInt64(first * Frame.size))
        held.append((first, try memory.pin(source, pages: length), length))
        for page in first..<first + length { counts[page] += 1 }
      } else {
        let pin = held.remove(at: Int.random(in: 0..<held.count, using: &random))
        memory.unpin(pin.runs)
        for page in pin.first..<pin.first + pin.pages { counts[page] -= 1 }
      }
      #expect(memory.pinnedFrames == counts.count { $0 > 0 })
      for page in 0..<pages {
        let physical = base.page(page)
        let isRight =
          memory.pinCount(of: physical) == counts[page]
          && memory.word(at: physical) == (counts[page] > 0 ? UInt64(page + 1) : nil)
        guard isRight else {
          Issue.record("seed \(seed), step \(step): page \(page), \(counts[page]) pins")
          return
        }
      }
    }
    for pin in held { memory.unpin(pin.runs) }
    #expect(memory.pinnedFrames == 0 && memory.fileMappings == 0)
    #expect(memory.retainedRuns == 0)
  }
}
