// SPDX-License-Identifier: Apache-2.0

import Glibc
import Host
import SystemPackage
import TestSupport
import Testing

@Suite struct EventWatcherTests {
  @Test("the call of a handler does not depend on how many calls came before")
  func handlersCostTheSame() throws {
    let bell = EventFile()
    let event = try EventDescriptor(OwnedDescriptor(owning: dup(bell.number)))
    let depth = StackDepth()
    let called = EventFile()
    let watch = try EventWatcher().watch(event) {
      depth.record()
      called.signal()
    }
    defer { watch.cancel() }
    let costs = try growingCosts(of: 20_000, depth) {
      bell.signal()
      try #require(called.wait())
      _ = called.drain()
    }
    #expect(costs.isEmpty)
  }
}
