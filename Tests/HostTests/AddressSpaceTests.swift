// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import Host

@Suite struct AddressSpaceTests {
  @Test func theAddressSpaceOfADeadProcessIsGone() throws {
    var child: ChildProcess? = try ChildProcess()
    let space = try AddressSpace(of: child!.task)
    #expect(!space.isGone)
    child = nil
    #expect(space.isGone)
    #expect(throws: Errno.noSuchProcess) { try space.area(containing: 4096) }
    #expect(throws: Errno.noSuchProcess) { try space.areaFromText(containing: 4096) }
    #expect(!space.touch(at: 4096, pages: 1))
  }
}
