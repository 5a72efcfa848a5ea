// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import Host

@Suite struct VirtualMemoryAreaTests {
  @Test func queryAndTextAgreeOnEveryMapping() throws {
    let child = try ChildProcess()
    let space = try AddressSpace(of: child.task)
    let lines = try ProcFile.read("/proc/\(child.id)/maps").split(separator: "\n")
    #expect(lines.count > 5)
    for line in lines where !line.hasSuffix("[vsyscall]") {
      let area = try #require(VirtualMemoryArea(mapsLine: Array(line.utf8)))
      for address in [area.start, area.end - 1] {
        #expect(try space.area(containing: address) == area)
        #expect(try space.areaFromText(containing: address) == area)
      }
    }
    #expect(try space.area(containing: 0) == nil)
    #expect(try space.areaFromText(containing: 0) == nil)
  }

  @Test func anAreaHasTheRangeAccessOffsetAndFileOfItsMapping() throws {
    let file = OwnedDescriptor(owning: try MemoryFile.create(name: "area", length: 16384))
    let base = try #require(
      mmap(nil, 8192, PROT_READ, MAP_SHARED, file.rawValue, 4096))
    defer { munmap(base, 8192) }
    let space = try AddressSpace(of: HostTask(id: getpid()))
    let address = UInt64(UInt(bitPattern: base))
    let area = try #require(try space.area(containing: address + 4096))
    #expect(area.start == address && area.end == address + 8192 && area.fileOffset == 4096)
    #expect(area.access == [.read, .shared])
    #expect(area.file == (try FileStatus(of: file).identity))
  }

  @Test func malformedLinesAreRejected() {
    for line in ["", "00-10", "zz-10 r--p 0 0:0 0", "0-10 r--p 0 0 0", "0-10 r--p 0 0:0 x"] {
      #expect(VirtualMemoryArea(mapsLine: Array(line.utf8)) == nil)
    }
  }
}
